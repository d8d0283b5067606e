"""The written rules a second time, without regular expressions: slow, plain, by the letter."""

from __future__ import annotations

CHANNEL, MESSAGE, RETURN = "<|channel|>final", "<|message|>", "<|return|>"
# Beside A to Z, these count as letters where case is ignored (dotted I, dotless i, long s, Kelvin).
ODD_LETTERS = "\u0130\u0131\u017f\u212a"


def final_section(text: str) -> str | None:
    for at in places(text, CHANNEL):
        after = at + len(CHANNEL)
        bracket = text.find("<", after)
        if bracket >= 0 and text.startswith(MESSAGE, bracket):
            content = text[bracket + len(MESSAGE) :]
            end = content.find(RETURN)
            return (content if end < 0 else content[:end]).strip()
    return None


def places(text: str, part: str) -> list[int]:
    return [at for at in range(len(text)) if text.startswith(part, at)]


def same_letter(one: str, other: str) -> bool:
    return one.lower() == other or (other == "s" and one == "\u017f")


def word_at(text: str, at: int, word: str) -> bool:
    found = text[at : at + len(word)]
    return len(found) == len(word) and all(map(same_letter, found, word))


def is_word(text: str, at: int) -> bool:
    return 0 <= at < len(text) and (text[at].isalnum() or text[at] == "_")


def is_letter(text: str, at: int) -> bool:
    inside = 0 <= at < len(text)
    return inside and ((text[at].isascii() and text[at].isalpha()) or text[at] in ODD_LETTERS)


def skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def digits(text: str, at: int) -> str:
    end = at
    while end < len(text) and text[end].isdecimal():
        end += 1
    return text[at:end]


def aime(text: str) -> int | None:
    text = text.strip()
    boxed, said = [], []
    for at in range(len(text)):
        if text.startswith("\\boxed{", at):
            start = skip_space(text, at + len("\\boxed{"))
            number = digits(text, start)
            if number and text[skip_space(text, start + len(number)) :][:1] == "}":
                boxed.append(number)
        if word_at(text, at, "answer:"):
            start = skip_space(text, at + len("answer:"))
            number = digits(text, start)
            end = start + len(number)
            if number and text[end : end + 1] != "." and not is_word(text, end):
                said.append(number)
    chosen = boxed or said
    if not chosen:
        return None
    value = int(chosen[-1])
    return value if 0 <= value <= 999 else None


def gpqa(text: str) -> str | None:
    text = text.strip()
    final = final_section(text)
    section = without_bold(text if final is None else final)
    if section[:2] in ("['", '["') and section[-2:] in ("']", '"]'):
        section = section[2:-2].strip()
    section = section.replace("\\" + "n", "\n").replace("\\" + "'", "'")
    return at_start(section.strip()) or first_answer(section) or last_answer(text)


def without_bold(text: str) -> str:
    out, at = "", 0
    while at < len(text):
        end = text.find("*", at + 2)
        if text.startswith("**", at) and end > at + 2 and text.startswith("**", end):
            out += text[at + 2 : end]
            at = end + 2
        else:
            out += text[at]
            at += 1
    return out


def option(text: str, at: int) -> str | None:
    return text[at].upper() if at < len(text) and text[at] in "ABCDabcd" else None


def at_start(section: str) -> str | None:
    at = 0
    while at < len(section) and not is_letter(section, at):
        at += 1
    return None if is_letter(section, at + 1) else option(section, at)


def first_answer(section: str) -> str | None:
    for at in range(len(section)):
        if is_word(section, at - 1) or not word_at(section, at, "answer"):
            continue
        place = skip_space(section, at + len("answer"))
        if section[place : place + 1] in (":", "."):
            place = skip_space(section, place + 1)
        letter = option(section, place)
        if letter and not is_word(section, place + 1):
            return letter
    return None


def last_answer(text: str) -> str | None:
    text = text.replace("\\" + "n", "\n").replace("\\" + "'", "'")
    letters = []
    for at in range(len(text)):
        if is_word(text, at - 1):
            continue
        start = skip_space(text, at + len("final")) if word_at(text, at, "final") else at
        if not word_at(text, start, "answer") or is_word(text, start + len("answer")):
            continue
        place = skip_space(text, start + len("answer"))
        if text[place : place + 1] in (":", "="):
            place = skip_space(text, place + 1)
        if text[place : place + 1] == "(":
            place = skip_space(text, place + 1)
        letter = option(text, place)
        if letter and not is_letter(text, place + 1):
            letters.append(letter)
    return letters[-1] if letters else None


def code(text: str) -> str | None:
    text = text.strip()
    final = final_section(text)
    found = None if final is None else block(final)
    return block(text) if found is None else found


def block(text: str) -> str | None:
    tagged = fenced(text, "```python")
    if tagged:
        return tagged[-1].strip()
    blocks = fenced(text, "```")
    return untagged(blocks[-1].strip()) if blocks else None


def fenced(text: str, opening: str) -> list[str]:
    found, at = [], text.find(opening)
    while at >= 0:
        start = at + len(opening)
        end = text.find("```", start)
        if end < 0:
            break
        found.append(text[start:end])
        at = text.find(opening, end + 3)
    return found


def untagged(code: str) -> str:
    for tag in ("python", "py"):
        end = skip_space(code, len(tag))
        if code[: len(tag)].lower() == tag and "\n" in code[len(tag) : end]:
            last = code.rfind("\n", len(tag), end)
            return code[last + 1 :]
    return code
