"""Sentences of the tab for presets and settings."""

from __future__ import annotations

from webui.core.text import Text

TAB = Text("Presets and settings", "预设与设置")
DOCUMENT = Text("Preset or settings", "预设或设置")
EDITOR = Text("YAML", "YAML 文本")
GROUPS = {
    "settings": Text("Settings", "设置"),
    "clips": Text("Clips", "视频"),
    "documents": Text("Documents", "文档"),
    "text": Text("Text", "文字"),
    "training": Text("Training", "训练"),
    "broken": Text("Cannot be read", "无法读取"),
    "deleted": Text("Deleted", "已删除"),
}
GIGABYTES = Text("{count} GB", "{count} GB 显存")
CARD = Text("Estimate on", "在此显卡上预计")
OWN_CARD = Text("the card that the preset names", "预设中写明的显卡")
NAME = Text("Another name", "另存的名称")
NAME_INFO = Text("Small letters, digits, dots and dashes.", "小写字母、数字、点和横线。")
VERSIONS = Text("Former versions", "历史版本")
VERSION = Text("{when} UTC · {size}", "{when}（世界时）· {size}")

SAVE = Text("Save", "保存")
SAVE_AS = Text("Save as", "另存为")
REVERT = Text("Revert", "还原")
CONFIRM_REVERT = Text("Give up what you changed here?", "确定放弃此处的修改吗？")
DUPLICATE = Text("Duplicate", "复制一份")
DELETE = Text("Delete", "删除")
CONFIRM_DELETE = Text(
    "Delete this preset? The history keeps its text.", "确定删除此预设吗？其文本会保留在历史中。"
)
USE = Text("Use it", "采用")
RESTORE = Text("Put it into the editor", "放入编辑器")
OVERWRITE = Text("Overwrite theirs", "覆盖对方的版本")
IMPORT = Text("Import a file", "导入文件")
EXPORT = Text("Export", "导出")

UNCHANGED = Text("As it is saved.", "与已保存的版本相同。")
CHANGED = Text("Not saved yet.", "尚未保存。")
NEW = Text("There is no such file yet: save to make it.", "还没有这个文件，保存后生成。")
READ_ONLY = Text(
    "Only the owner of this machine edits; presets can be read and used.",
    "只有本机的所有者可以编辑；预设可以查看和使用。",
)
SAVED = Text("Saved.", "已保存。")
IN_EFFECT = Text("Saved, and in effect from now on.", "已保存，立即生效。")
DELETED = Text("Deleted. It can be found at the end of the list.", "已删除，可在列表末尾找到。")
COPIED = Text("This is the copy, {name}.", "这是副本 {name}。")
IMPORTED = Text("Imported, and not saved yet.", "已导入，尚未保存。")
RESTORED = Text(
    "The former version is in the editor, and not saved yet.", "历史版本已放入编辑器，尚未保存。"
)
DRAFT = Text("Your unsaved changes are back.", "已恢复你未保存的修改。")
NO_PROBLEM = Text("No mistakes.", "没有错误。")
PROBLEMS = Text("What is wrong", "有误之处")
LINE = Text("Line {line}", "第 {line} 行")
CHANGES = Text("Changes against the saved version", "与已保存版本的差异")
TOO_LONG = Text("The text has too many lines to compare it here.", "文本行数过多，无法在此比较。")
THEIRS = Text("From their version to yours", "从对方的版本到你的版本")
NO_ESTIMATE = Text(
    "Correct the mistakes to see the estimate.",
    "改正有误之处后，这里会显示预计用量。",
)
COMMAND = Text(
    "No tab of this page runs it. From the command line: {command}",
    "本页面没有运行它的标签页。请在命令行中运行：{command}",
)
NAME_FIRST = Text("Type a name first.", "请先输入名称。")
NOTHING_CHOSEN = Text("Choose a version first.", "请先选择一个版本。")
ONE_FILE = Text("The file did not arrive; choose it again.", "文件未能上传，请重新选择。")
BACK = Text("This is what you had written.", "这是你之前写的内容。")
BACK_BUTTON = Text("Back to my text", "恢复我的文本")
