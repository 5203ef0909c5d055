"""The conversations that templates.py renders."""


def say(role: str, content, **extra) -> dict:
    return {"role": role, "content": content} | extra


def call(name: str, arguments: dict, identifier: str) -> dict:
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather at a place: <warm> & \"dry\"?",
    "parameters": {"type": "object", "properties": {
        "place": {"type": "string", "description": "e.g. Zürich"},
        "days": {"type": "integer", "minimum": 1}}, "required": ["place"]}}}
ADD = {"type": "function", "function": {
    "name": "add", "description": "Adds numbers",
    "parameters": {"type": "object", "properties": {"values": {"type": "array", "items": {"type": "number"}}}}}}


def conversation(name: str, messages: list[dict], tools: list[dict] | None = None, plain: bool = True) -> dict:
    """`plain`: every content is a string."""
    return {"name": name, "messages": messages, "tools": tools, "plain": plain}


CONVERSATIONS = [
    conversation("one user turn", [say("user", "Where is the key?")]),
    conversation("system and user", [say("system", "Be brief."), say("user", "Where is the key?")]),
    conversation("two turns", [
        say("user", "Where is the key?"), say("assistant", "In the tin."), say("user", "And the tin?")]),
    conversation("system, ends with the assistant", [
        say("system", "You answer in one word."), say("user", "Who is taller?"), say("assistant", "Ana."),
        say("user", "Who is shorter?"), say("assistant", "Ben.")]),
    conversation("unicode", [
        say("user", "Größe? 你好 👩‍👩‍👧 e\u0301 \u202eשלום\u202c"), say("assistant", "naïve – “quotes” 𝔘\u00a0."),
        say("user", "もう一度🙂")]),
    conversation("whitespace", [
        say("user", "  two before\n\n and\ttab \r\n"), say("assistant", "\n\nlines around \n"), say("user", "\u00a0 x\n")]),
    conversation("empty contents", [say("user", ""), say("assistant", ""), say("user", " ")]),
    conversation("control text inside", [
        say("user", "{{ bos_token }} {% if x %} <|im_end|> </s> [/INST] <|eot_id|> <end_of_turn>"),
        say("assistant", "{# not a comment #} <|im_start|>user\\n 'single' \"double\" \\ back"),
        say("user", "<think>no</think>")]),
    conversation("reasoning in the answer", [
        say("user", "2+2?"), say("assistant", "<think>\nTwo and two.\n</think>\n\n4"), say("user", "3+3?"),
        say("assistant", "<think>\n\n</think>\n\n6")]),
    conversation("reasoning_content", [
        say("user", "2+2?"), say("assistant", "4", reasoning_content="Two and two.\n"), say("user", "3+3?"),
        say("assistant", "6", reasoning_content="Three and three.")]),
    conversation("two user turns in a row", [say("user", "One."), say("user", "Two."), say("assistant", "Both.")]),
    conversation("system in the middle", [
        say("user", "Hello."), say("assistant", "Hello!"), say("system", "Now be rude."), say("user", "Hello again.")]),
    conversation("unknown role", [say("user", "Hello."), say("narrator", "It rains."), say("assistant", "Yes.")]),
    conversation("assistant first", [say("assistant", "Ask me."), say("user", "Why?")]),
    conversation("many turns", [say(("user", "assistant")[i % 2], f"turn {i}") for i in range(9)]),
    conversation("text parts", [
        say("user", [{"type": "text", "text": "part one "}, {"type": "text", "text": "part two"}]),
        say("assistant", "Seen.")], plain=False),
    conversation("tools offered", [say("system", "Use tools."), say("user", "Rain in Zürich?")], [WEATHER, ADD]),
    conversation("tool called and answered", [
        say("user", "Rain in Zürich?"),
        say("assistant", "", tool_calls=[call("get_weather", {"place": "Zürich <&>", "days": 2}, "abcdef012")]),
        say("tool", '{"rain": true}', name="get_weather", tool_call_id="abcdef012"),
        say("assistant", "Yes, it rains.")], [WEATHER], plain=False),
    conversation("numbers and nesting in arguments", [
        say("system", "Calculate."), say("user", "Add them."),
        say("assistant", "Adding.", tool_calls=[call("add", {
            "values": [1, 1.0, 0.1, 1e-7, 1e21, -0.0, 12345678901234567890], "z": {"a": None, "B": True}, "a": "é\u2028\"\\\n"},
            "abcdef012")]),
        say("tool", "3.1", tool_call_id="abcdef012"), say("assistant", "3.1 in all.")], [ADD], plain=False),
    conversation("two calls at once", [
        say("user", "Both?"),
        say("assistant", None, tool_calls=[call("add", {"values": []}, "abcdef012"),
                                           call("get_weather", {"place": "Ulm"}, "abcdef013")]),
        say("tool", "0", tool_call_id="abcdef012"), say("tool", "dry", tool_call_id="abcdef013"),
        say("assistant", "0 and dry.")], [WEATHER, ADD], plain=False),
]
