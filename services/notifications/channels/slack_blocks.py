"""An alert as Slack blocks.

Text from a CRM stands only in `plain_text` and rich-text elements, which Slack shows as they are:
no mention, link, emphasis or emoji can come out of it. The one mrkdwn element is our own link.
The fallback text, which Slack does read for mentions, is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence

from slack_sdk.models.blocks import (
    Block,
    ContextBlock,
    DividerBlock,
    HeaderBlock,
    MarkdownTextObject,
    PlainTextObject,
    RichTextBlock,
    RichTextElementParts,
    RichTextListElement,
    RichTextSectionElement,
    SectionBlock,
)

from services.notifications.domain.content import Content


def escaped(text: str) -> str:
    """`text` with Slack's three control characters as entities, so it cannot mention or link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def fallback_text(content: Content) -> str:
    """What notifications and screen readers show instead of the blocks."""
    lines = [content.headline, content.status]
    lines += [f"{fact.label}: {fact.value}" for fact in content.facts]
    lines += list(content.why)
    return escaped("\n".join(lines))


def alert_blocks(content: Content) -> list[dict[str, object]]:
    """Headline, status, up to three facts, the reasons, the link and a line of context.

    Raises SlackObjectFormationError when a text exceeds a limit of Slack's.
    """
    blocks: list[Block] = [
        HeaderBlock(text=_plain(content.headline)),
        SectionBlock(text=_plain(content.status)),
    ]
    if content.facts:
        pairs = [(_plain(fact.label), _plain(fact.value)) for fact in content.facts]
        blocks.append(SectionBlock(fields=[cell for pair in pairs for cell in pair]))
    if content.why:
        blocks.append(_reasons(content.why))
    if content.link is not None:
        link = f"<{escaped(content.link)}|Open in Attain>"
        blocks.append(SectionBlock(text=MarkdownTextObject(text=link, verbatim=True)))
    blocks += [DividerBlock(), ContextBlock(elements=[_plain(content.context)])]
    return [block.to_dict() for block in blocks]


def _plain(text: str) -> PlainTextObject:
    # Slack refuses empty text; a value can be empty once its control characters are gone.
    return PlainTextObject(text=text or "-", emoji=False)


def _reasons(why: Sequence[str]) -> RichTextBlock:
    heading = RichTextElementParts.Text(text="Why", style=RichTextElementParts.TextStyle(bold=True))
    items = [
        RichTextSectionElement(elements=[RichTextElementParts.Text(text=reason or "-")])
        for reason in why
    ]
    return RichTextBlock(
        elements=[
            RichTextSectionElement(elements=[heading]),
            RichTextListElement(style="bullet", elements=items),
        ]
    )
