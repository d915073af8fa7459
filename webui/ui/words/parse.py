"""Sentences of the tab that reads documents."""

from __future__ import annotations

from webui.core.text import Text

TAB = Text("Documents", "文档")
FILES = Text("PDF, pictures, TIFF, ZIP", "PDF、图片、TIFF、ZIP")
FOLDER = Text("Or a folder or file on this machine", "或本机上的文件夹或文件")
FOLDER_INFO = Text(
    "Only you, the owner, see this field. Nothing is copied from a folder.",
    "只有所有者能看到此项。文件夹中的文件不会被复制。",
)
OWNERS_FOLDER = Text(
    "Only the owner of this machine can name a folder.", "只有本机的所有者可以指定文件夹。"
)
UPLOAD_INSTEAD = Text("Upload the files instead.", "请改为上传文件。")
PAGES = Text("Pages", "页码")
PAGES_INFO = Text("all, or ranges such as 1-3, 7", "all 表示全部，或写范围，例如 1-3, 7")
DPI = Text("Resolution of PDF pages (dpi)", "PDF 页面的分辨率（dpi）")
RUN = Text("Read the pages", "识别页面")
MAX_PIXELS = Text("Maximum pixels of a page", "每页最大像素数")
MAX_PIXELS_INFO = Text(
    "Larger pages are shrunk to this. 786432 is 886 x 886.",
    "更大的页面会缩小到此值。786432 即 886 x 886。",
)
LARGEST = Text("The largest that fits the card", "取显卡放得下的最大值")
NEW_TOKENS = Text("Maximum new tokens of a page", "每页最多生成的词元")
NEW_TOKENS_INFO = Text(
    "A page whose text is longer is cut off, and the page says so.",
    "文字更多的页面会被截断，并会注明。",
)
COUNTED = Text(
    "{pages} pages; the largest is {width} x {height} px.",
    "共 {pages} 页，最大 {width} x {height} 像素。",
)
COUNTED_ONE = Text("1 page of {width} x {height} px.", "共 1 页，{width} x {height} 像素。")
ONE_PAGE = Text("Planned for one page, until there is a document.", "尚无文档时，按一页规划。")
FED_SIZE = Text("The model sees {width} x {height} px.", "模型看到的是 {width} x {height} 像素。")
EMPTY = Text(
    "Choose a document and read it. Each page appears here as soon as it is read.",
    "选择文档并开始识别。每识别完一页，就会显示在这里。",
)
RECENT = Text("Documents that you read", "识别过的文档")
WAITING = Text("Page {number} is not read yet.", "第 {number} 页还没有识别。")
NOT_THERE = Text("Page {number} was not read.", "第 {number} 页没有识别。")

KINDS = {
    "title": Text("title", "标题"),
    "text": Text("text", "正文"),
    "table": Text("table", "表格"),
    "figure": Text("figure", "图"),
    "formula": Text("formula", "公式"),
}
VIEWS = {
    "read": Text("Read", "阅读"),
    "markdown": Text("Markdown source", "Markdown 源码"),
    "json": Text("JSON data", "JSON 数据"),
    "text": Text("Plain text", "纯文本"),
}
VIEWS_LABEL = Text("How the page is shown", "页面的显示方式")
PAGER_LABEL = Text("Pages of the document", "文档的页面")
PREVIOUS = Text("Previous page", "上一页")
NEXT = Text("Next page", "下一页")
PAGE_NUMBER = Text("Page number", "页码")
OF_PAGES = Text("of {count}", "共 {count} 页")
PLACE_OF_PAGES = Text("({place} of {count})", "（第 {place} 个，共 {count} 页）")
READ_SO_FAR = Text("{read} of {count} pages read", "已识别 {read} / {count} 页")
PAGE_PICTURE = Text("Page {number} as it was given", "第 {number} 页原图")
NOT_FOUND_ON_PAGE = Text("Nothing was found on this page.", "这一页没有识别到内容。")
NO_PLACES = Text(
    "This model tells no places, so the page has no boxes.",
    "此模型不给出位置，因此页面上没有方框。",
)
HOW_TO_LINK = Text(
    "Point at a box to mark its text; click to keep it marked. The other way round works too.",
    "指向方框会标出对应文字，点击可保持标记；反之亦然。",
)
CUT_OFF = Text(
    "This page reached a limit after {tokens} new tokens, so its text may go on.",
    "这一页在生成 {tokens} 个词元后达到上限，文字可能不完整。",
)
CUT_OFF_HINT = Text(
    "Raise the maximum new tokens and read the page again. At most {lines} lines or {regions} "
    "regions of a page are read.",
    "请提高词元上限后重新识别。每页最多识别 {lines} 行或 {regions} 个区域。",
)
CUT_OFF_PAGES = Text("Reached a limit:", "达到上限：")
FAILED_PAGES = Text("Could not be read:", "无法识别：")
AND_MORE = Text("and {count} more", "另有 {count} 页")
RESUME = Text("Go on with the missing pages", "继续识别缺少的页面")
DOWNLOAD_ALL = Text("Download all as ZIP", "下载全部（ZIP）")
SEARCH = Text("Search all pages (Enter)", "搜索全部页面（按 Enter）")
FOUND_NOTHING = Text("“{wanted}” stands on none of the pages.", "所有页面中都没有“{wanted}”。")
FOUND = Text("{count} places", "共 {count} 处")
FOUND_MOST = Text("The first {count} places", "前 {count} 处")
HIT = Text("p. {number}", "第 {number} 页")
NO_DOCUMENT = Text("There is no document to read.", "没有要识别的文档。")
CHOOSE_ONE = Text("Choose one or more files first.", "请先选择一个或多个文件。")
