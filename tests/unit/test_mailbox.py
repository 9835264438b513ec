"""Series of patches in mailboxes: their order, what is no patch, and what is refused."""

from __future__ import annotations

import subprocess
from email.message import EmailMessage
from pathlib import Path

import pytest

from harness import config
from harness.cache import Cache
from harness.config import mailbox
from harness.errors import ConfigError
from harness.kernel import patching
from harness.kernel.tree import Source

DATA = Path(__file__).resolve().parents[1] / "data" / "mailbox"
ENVELOPE = b"From git@z Thu Jan  1 00:00:00 1970\n"
LINES = "".join(f"line {number}\n" for number in range(1, 21))


def diff(number: int, text: str = "changed") -> str:
    return (
        f"--- a/mm/cma.c\n+++ b/mm/cma.c\n@@ -{number} +{number} @@\n"
        f"-line {number}\n+line {number}, {text}\n"
    )


def mail(subject: str, body: str, **encoding: str) -> bytes:
    message = EmailMessage()
    message["From"] = "Somebody <somebody@example.org>"
    message["Subject"] = subject
    message.set_content(body, **encoding)
    return ENVELOPE + message.as_bytes() + b"\n"


def patch(place: str, number: int = 1, version: str = "") -> bytes:
    body = f"Why.\n---\n mm/cma.c | 2 +-\n\n{diff(number)}-- \n2.39.5\n"
    return mail(f"[PATCH{version} {place}] mm/cma: part {place}", body)


def subjects(*mails: bytes) -> list[str]:
    return [each.subject for each in mailbox.series(b"".join(mails), "x.mbox")]


def refused(*mails: bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        mailbox.series(b"".join(mails), "x.mbox")
    assert caught.value.exit_code == 2
    assert caught.value.where == "x.mbox"
    return caught.value.what


def test_patches_are_in_their_order_and_what_is_no_patch_is_left_out():
    cover = mail("[PATCH 0/3] mm/cma: parts", "What it is about.\n")
    reply = mail("Re: [PATCH 2/3] mm/cma: part 2/3", f"Better so:\n\n{diff(4)}")
    robot = mail("[mm-unstable 12/345] mm/cma.c:2: warning", "A warning.\n")
    found = subjects(reply, patch("3/3"), cover, patch("1/3"), robot, patch("2/3"), patch("1/3"))
    assert found == [f"[PATCH {n}/3] mm/cma: part {n}/3" for n in (1, 2, 3)]


def test_ten_come_behind_nine():
    found = subjects(*(patch(f"{n}/11") for n in (10, 11, *range(1, 10))))
    assert found[8:] == [f"[PATCH {n}/11] mm/cma: part {n}/11" for n in (9, 10, 11)]


def test_patches_without_numbers_are_in_the_files_order():
    found = subjects(mail("[PATCH] b", diff(2)), mail("a", diff(1)))
    assert found == ["[PATCH] b", "a"]


@pytest.mark.parametrize("cte", ["quoted-printable", "base64", "8bit"])
def test_a_body_is_decoded(cte):
    change = diff(2, "é = €")
    (found,) = mailbox.series(mail("[PATCH] a", f"Why.\n\n{change}", cte=cte), "x.mbox")
    assert found.diff == change.encode()


def test_a_body_of_another_charset_becomes_utf_8():
    change = diff(2, "é")
    (found,) = mailbox.series(mail("[PATCH] a", change, charset="iso-8859-1"), "x.mbox")
    assert found.diff == change.encode()


def test_a_charset_that_is_not_the_text_s_changes_no_byte():
    raw = b"Subject: [PATCH] a\nContent-Type: text/plain; charset=utf-8\n\n" + diff(2, "é").encode(
        "iso-8859-1"
    )
    (found,) = mailbox.series(ENVELOPE + raw, "x.mbox")
    assert found.diff == diff(2, "é").encode("iso-8859-1")


def test_line_ends_of_the_mail_are_not_the_source_s():
    text = mail("[PATCH] a", diff(2).replace("\n", "\r\n"), cte="base64")
    (found,) = mailbox.series(text, "x.mbox")
    assert found.diff == diff(2).encode()


def test_a_subject_is_decoded():
    (found,) = mailbox.series(mail("[PATCH v3 1/1] é", diff(2)), "x.mbox")
    assert (found.subject, found.version) == ("[PATCH v3 1/1] é", 3)


def test_what_a_changelog_quotes_is_not_applied():
    (found,) = mailbox.series(mail("[PATCH] a", f"As in\n\n    {diff(7)}\n{diff(2)}"), "x.mbox")
    assert found.diff == diff(2).encode()


def test_a_signature_and_a_page_beside_the_text_are_no_diff():
    message = EmailMessage()
    message["Subject"] = "[PATCH] a"
    message.set_content(f"Why.\n\n{diff(2)}")
    message.add_alternative(f"<pre>{diff(2)}</pre>\n", subtype="html")
    message.add_attachment(diff(4).encode(), maintype="application", subtype="pgp-signature")
    (found,) = mailbox.series(ENVELOPE + message.as_bytes(), "x.mbox")
    assert found.diff == diff(2).encode()


@pytest.mark.parametrize(
    ("mails", "told"),
    [
        ([mail("[PATCH 0/2] a", "About.\n")], "no patch in this mailbox of 1 mails"),
        ([mail("hello", "Words.\n")], "no patch in this mailbox of 1 mails"),
        ([patch("1/4"), patch("3/4")], "not in this mailbox: 2/4, 4/4"),
        ([patch("1/2", version=" v1"), patch("2/2", version=" v2")], "versions v1, v2 of a"),
        ([patch("1/1"), patch("1/1", version=" v2")], "versions v1, v2 of a series are mixed"),
        ([patch("1/2"), patch("2/3")], "more than one series: [PATCH 1/2] mm/cma: part 1/2; [PA"),
        ([patch("1/2"), mail("[PATCH] a", diff(1))], "more than one series"),
        ([patch("1/1"), patch("1/1", 2)], "two mails for one patch: [PATCH 1/1] mm/cma: part"),
        ([patch("1/2"), mail("[PATCH 2/2] b", "Mangled.\n")], "no diff in [PATCH 2/2] b"),
    ],
)
def test_what_is_no_whole_series_is_refused(mails, told):
    assert told in refused(*mails)


@pytest.mark.parametrize("name", ["b4.mbx", "format-patch.mbox"])
def test_what_the_tools_write_is_read_and_applies(tmp_path, name):
    """b4 0.16.0, offline, on what git 2.39.5 had written; the latter with a line "From a line"."""
    patches = config.patches_for([DATA / name], "6.12")
    assert [each.name for each in patches] == [
        "[PATCH v2 1/3] mm/cma: the first",
        "[PATCH v2 2/3] mm/cma: the second",
        "[PATCH v2 3/3] mm/cma: the third",
    ]
    text = (patched(tmp_path, patches).tree / "mm" / "cma.c").read_text()
    assert text == LINES.replace("line 2\n", "line 2, second, é\n").replace(
        "line 19\n", "line 19, third\n"
    )


def patched(tmp_path: Path, patches: tuple[config.Patch, ...]) -> Source:
    tree = tmp_path / "linux"
    (tree / "mm").mkdir(parents=True, exist_ok=True)
    (tree / "mm" / "cma.c").write_text(LINES)
    original = Source(tree, "1", "6.12.0", "linux", "1")
    return patching.patched(original, patches, Cache(tmp_path / "cache"))


def written(tmp_path: Path, *mails: bytes) -> Path:
    file = tmp_path / "series.mbox"
    file.write_bytes(b"".join(mails))
    return file


def test_a_refusal_names_the_mail(tmp_path):
    file = written(tmp_path, patch("1/2", 2), mail("[PATCH 2/2] b", diff(2, "again")))
    with pytest.raises(ConfigError) as caught:
        patched(tmp_path, config.patches_for([file], "6.12"))
    assert str(caught.value).startswith(
        f"{file}: [PATCH 2/2] b: does not apply to linux 6.12.0: mm/cma.c: hunk 1, at line 2"
    )


def test_only_what_is_applied_makes_it_another_source(tmp_path):
    def key(*mails: bytes) -> str:
        return patched(tmp_path, config.patches_for([written(tmp_path, *mails)], "6.12")).identity

    one, other = patch("1/2", 2), patch("2/2", 7)
    assert key(one, other) == key(mail("[PATCH 0/2] c", "About.\n"), other, one)
    assert key(one, other) != key(one, patch("2/2", 8))
    single = tmp_path / "single.patch"
    single.write_text(diff(2))
    assert patched(tmp_path, config.patches_for([single], "6.12")).identity == key(
        mail("[PATCH] a", diff(2))
    )


def test_a_series_toml_may_name_a_mailbox(tmp_path):
    written(tmp_path, patch("2/2"), patch("1/2"))
    entry = '[[patch]]\nfile = "series.mbox"\nversions = "since 6.12"\nwhy = "a fix"\n'
    (tmp_path / "mine.toml").write_text(entry)
    found = config.patches_for([tmp_path / "mine.toml"], "6.12")
    assert [each.name[:11] for each in found] == ["[PATCH 1/2]", "[PATCH 2/2]"]
    assert config.patches_for([tmp_path / "mine.toml"], "6.1") == ()


def test_a_mail_that_git_format_patch_wrote_by_itself_is_a_patch(tmp_path):
    for name, words in {"b": "mm/cma: b", "c": "mm/cma: c"}.items():
        (tmp_path / name).write_text(words)
    commands = (["init", "-q"], ["add", "b"], ["commit", "-qm", "b"], ["add", "c"])
    for words in (*commands, ["commit", "-qm", "From b to c"], ["format-patch", "-q", "-1"]):
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True)
    (found,) = config.patches_for([tmp_path / "0001-From-b-to-c.patch"], "6.12")
    assert found.name == "[PATCH] From b to c"
    assert found.content.startswith(b"diff --git a/c b/c\n")
