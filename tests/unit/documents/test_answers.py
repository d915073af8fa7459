"""What models write, as blocks: places on the page, broken and hostile HTML, Markdown."""

from __future__ import annotations

import random

import pytest

from webui.catalogue import models_of
from webui.core.pages import PageCard
from webui.documents.answers import read_answer
from webui.documents.blocks import PageResult
from webui.documents.bundle import page_html
from webui.documents.markup import clean, formula, table_markdown

PAGE = """<h1 data-bbox="100,50,900,90">Title</h1>
<p data-bbox="100,110,500,300">First &lt;b&gt; line<br>and $x_1^2$</p>
<div class="table" data-bbox="10,320,990,500"><table><tr><th>A</th><th>B</th></tr>
<tr><td>1</td><td>2|3</td></tr></table></div>
<div class="formula" data-bbox="10,520,990,600">$$\\frac{a}{b}$$</div>
<div class="image" data-bbox="10,620,990,700"><img data-bbox="10,620,990,700"/></div>
<div class="image caption" data-bbox="10,710,990,730">A picture</div>"""


def html(answer: str, **keys):
    return read_answer(answer, "html", "thousandths", page=(1000, 1000), **keys)


def test_a_page_becomes_blocks_by_kind():
    blocks = html(PAGE)
    kinds = ["title", "text", "table", "formula", "figure", "figure"]
    assert [block.kind for block in blocks] == kinds
    title, text, table, equation, *_ = blocks
    assert title.html == "<h1>Title</h1>" and title.markdown == "# Title"
    assert title.box == (100, 50, 900, 90)
    assert text.text == "First <b> line\nand $x_1^2$"
    assert "<math" in text.html and "&lt;b&gt;" in text.html and "<b>" not in text.html
    assert table.markdown.splitlines() == ["| A | B |", "| --- | --- |", "| 1 | 2\\|3 |"]
    assert table.text == "A\tB\n1\t2|3"
    assert equation.text == "\\frac{a}{b}" and "<mfrac>" in equation.html
    assert equation.markdown == "$$\n\\frac{a}{b}\n$$"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_boxes_land_on_the_words(version):
    """Within 2 pixels, or one unit of the model's grid, for any size and shape of a page."""
    card = models_of(PageCard)[f"logics-parsing-{version}"]
    chance = random.Random(7)
    for _ in range(300):
        width, height = chance.randint(40, 6000), chance.randint(40, 6000)
        limit = chance.choice([None, 262_144, 1_048_576])
        fed_height, fed_width = card.fed_size(height, width, limit)
        seen = (1000, 1000) if version == "v2" else (fed_width, fed_height)
        left, top = chance.uniform(0, width * 0.8), chance.uniform(0, height * 0.8)
        word = (left, top, left + 0.15 * width, top + 0.15 * height)
        told = [
            round(place * side / size)
            for place, side, size in zip(word, seen * 2, (width, height) * 2, strict=True)
        ]
        answer = f'<p data-bbox="{",".join(map(str, told))}">word</p>'
        blocks = read_answer(
            answer, card.output, card.boxes, (fed_width, fed_height), (width, height)
        )
        for found, place, size, side in zip(
            blocks[0].box, word, (width, height) * 2, seen * 2, strict=True
        ):
            assert abs(found - place) <= max(2, size / side)


def test_places_that_make_no_sense_are_left_out():
    for box in ("5,5,5,90", "a,b,c,d", "1,2,3", "", "9e9,1,2,3"):
        assert html(f'<p data-bbox="{box}">word</p>')[0].box is None
    assert html('<p data-bbox="900,20,-50,4000">word</p>')[0].box == (0, 20, 900, 1000)


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    '<a href="javascript:alert(1)">x</a>',
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<math><mtext></mtext><mglyph><style><img src=x onerror=alert(1)></style></mglyph></math>",
    "$\\text{<img src=x onerror=alert(1)>}$",
    "$\\href{javascript:alert(1)}{x}$",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<style>*{background:url(//evil)}</style>",
    "<p style='background:url(//evil)' onclick=alert(1)>x</p>",
]


@pytest.mark.parametrize("output", ["html", "markdown", "text"])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_in_an_answer_runs_or_loads(hostile, output):
    for answer in (hostile, f'<p data-bbox="1,2,3,4">{hostile}</p>', f"# {hostile}\n\n{hostile}"):
        result = PageResult(
            number=1,
            document="<script>",
            page=1,
            blocks=tuple(read_answer(answer, output, "thousandths", page=(9, 9))),
        )
        shown = page_html(result).lower()
        for word in ("<script", "<img", "<svg", "<iframe", "<style", "<a ", "<scr<"):
            assert word not in shown, shown
        # Whatever is left of them stands there as text, outside of any tag.
        tags = "".join(part.split(">")[0] for part in shown.split("<")[1:])
        assert "javascript:" not in tags and "onerror" not in tags and "url(" not in tags
        assert "<script" not in result.markdown.lower() and "](" not in result.markdown


def test_answers_that_were_cut_off_or_nested_wrongly_keep_their_text():
    for length in range(len(PAGE)):
        text = "".join(block.text for block in html(PAGE[:length]))
        assert "data-bbox" not in text and "<p" not in text
    for block in html('<p data-bbox="1,1,9,9">one<b>two<p data-bbox="1,10,9,20">three</b></p></i>'):
        assert block.html in ("<p>one<b>two</b></p>", "<p>three</p>")
    assert [block.text for block in html("before<p data-bbox='1,1,9,9'>in</p>after")] == [
        "before", "in", "after",
    ]  # fmt: skip
    assert html("") == html("<p data-bbox='1,1,9,9'>   </p>") == []
    deep = "<div>" * 3000 + "deep" + "</div>" * 3000
    assert "deep" in "".join(block.text for block in html(deep))


def test_markdown_is_cut_into_blocks():
    answer = (
        "---\nprimary_language: en\nis_table: true\n---\n"
        "# A title\n\nSome *text* with \\(a^2\\).\n\n"
        "<table><tr><td>1</td><td>2</td></tr>\n\n<tr><td>3</td><td>4</td></tr></table>\n\n"
        "| A | B |\n|---|---|\n| 1 | 2 |\n\n$$\nE=mc^2\n$$\n\n![a cat](page_1_2_3_4.png)\n"
    )
    blocks = read_answer(answer, "markdown")
    assert [b.kind for b in blocks] == ["title", "text", "table", "table", "formula", "figure"]
    assert blocks[0].text == "A title" and "primary_language" not in blocks[0].markdown
    assert blocks[2].text == "1\t2\n3\t4" and blocks[3].text == "A\tB\n1\t2"
    assert "<math" in blocks[4].html and "<em>text</em>" in blocks[1].html


def test_a_formula_that_is_none_stands_as_it_was_written():
    assert "frac" in formula("\\frac{") and "<script" not in formula("<script>\\frac{")
    assert "5 and 6" in clean("<p>$5 and 6$5</p>")
    spanning = '<table><tr><td colspan="2">x</td></tr></table>'
    assert "<table" in table_markdown(spanning)
