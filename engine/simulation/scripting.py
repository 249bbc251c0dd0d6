"""The Lua of a Redis in memory: the real sources, run by Lua 5.1 as a server runs them, with its `redis` and `cjson`.

One interpreter a process serves every simulated server in turn, for making one costs as much as a simulated day.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import orjson
from lupa import lua51

from engine.simulation.keyspace import CommandError, Reply, Status, number_text

#: One command of whichever server runs a script.
Call = Callable[[str, Sequence[str]], Reply]

#: A script sees Lua's own library, `redis` and `cjson`; a global of its own is an error, as on a server.
_LOADER = """
return function(redis_call, error_reply, status_reply, decode, encode)
  local library = {
    redis = {
      call = redis_call,
      pcall = function(...)
        local done, answer = pcall(redis_call, ...)
        if done then return answer end
        return { err = tostring(answer) }
      end,
      error_reply = error_reply, status_reply = status_reply,
    },
    cjson = { decode = decode, encode = encode },
    string = string, table = table, math = math, pairs = pairs, ipairs = ipairs, next = next, type = type,
    tostring = tostring, tonumber = tonumber, unpack = unpack, pcall = pcall, error = error, select = select,
    assert = assert, rawget = rawget, rawset = rawset, setmetatable = setmetatable, getmetatable = getmetatable,
  }
  local environment = setmetatable({}, {
    __index = function(_, name)
      if library[name] == nil then error('the script reads an unknown global: ' .. tostring(name)) end
      return library[name]
    end,
    __newindex = function(_, name) error('the script writes a global: ' .. tostring(name)) end,
  })
  return function(source)
    local script, refused = loadstring(source, '@user_script')
    if not script then error(refused) end
    setfenv(script, environment)
    return function(count, ...)
      local all, keys, given = { ... }, {}, {}
      for i = 1, count do keys[i] = all[i] end
      for i = count + 1, #all do given[i - count] = all[i] end
      rawset(environment, 'KEYS', keys)
      rawset(environment, 'ARGV', given)
      return script()
    end
  end
end
"""
_FIELD_OF_NUMBERS = "%.14g"


class Interpreter:
    """Lua 5.1 with the libraries of a server. Runs one script at a time."""

    def __init__(self) -> None:
        self._lua = lua51.LuaRuntime(register_eval=False, register_builtins=False, unpack_returned_tuples=False)
        # Half a day's tables are small: collected as seldom, they cost a tenth of its time less.
        self._lua.execute("collectgarbage('setpause', 1000)")
        self._unpack = self._lua.eval("function(t) return unpack(t) end")
        self._table = self._lua.table_from
        self._load = self._lua.execute(_LOADER)(
            self._called, lambda text: self._table({"err": text}), lambda text: self._table({"ok": text}),
            self._decode, self._encode,
        )  # fmt: skip
        self._scripts: dict[str, Any] = {}
        self._call: Call = _nothing_runs

    def run(self, source: str, keys: Sequence[str], arguments: Sequence[str], call: Call) -> Reply:
        """A script's reply; CommandError where it answers with an error or ends with one."""
        script = self._scripts.get(source) or self._loaded(source)
        self._call = call
        try:
            return self._told(script(len(keys), *keys, *arguments))
        except lua51.LuaError as error:
            raise CommandError(f"ERR {error}") from error
        finally:
            self._call = _nothing_runs

    def _loaded(self, source: str) -> Any:
        self._scripts[source] = made = self._load(source)
        return made

    def _called(self, name: str, *arguments: Any) -> Any:
        """`redis.call`: numbers go as a server writes them, and a reply comes as the table it makes of it."""
        given = [each if type(each) is str else _argument(each) for each in arguments]
        return self._received(self._call(name, given))

    def _received(self, reply: Reply) -> Any:
        if reply is None:
            return False
        if type(reply) is list:
            return self._table([each if type(each) is str else self._received(each) for each in reply])
        if type(reply) is Status:
            return self._table({"ok": str(reply)})
        return reply

    def _told(self, value: Any) -> Reply:
        """What a script returned, as a client receives it."""
        if value is None or value is False:
            return None
        if value is True:
            return 1
        if type(value) is str:
            return value
        if lua51.lua_type(value) == "table":
            return self._told_of_table(value)
        return int(value)

    def _told_of_table(self, table: Any) -> Reply:
        items = self._items(table)
        if not items:
            if (refused := table["err"]) is not None:
                raise CommandError(refused)
            if (status := table["ok"]) is not None:
                return Status(status)
        return [each if type(each) is str else self._told(each) for each in items]

    def _items(self, table: Any) -> tuple[Any, ...]:
        """The array part, up to its first hole."""
        count = len(table)
        if count == 0:
            return ()
        found = self._unpack(table)
        items = found if type(found) is tuple else (found,)
        return items[: items.index(None)] if None in items else items

    def _decode(self, text: str) -> Any:
        try:
            return self._as_lua(orjson.loads(text))
        except orjson.JSONDecodeError as error:
            raise CommandError(f"ERR {error}") from error

    def _as_lua(self, value: Any) -> Any:
        if type(value) is dict:
            return self._table(
                {name: each if type(each) is str else self._as_lua(each) for name, each in value.items()}
            )
        if type(value) is list:
            return self._table([each if type(each) is str else self._as_lua(each) for each in value])
        if value is None:
            raise NotImplementedError("no script of ours is given a null")
        return float(value) if type(value) is int else value

    def _encode(self, value: Any) -> str:
        if type(value) is str:
            return _quoted(value)
        if value is None:
            return "null"
        if type(value) is bool:
            return "true" if value else "false"
        if isinstance(value, int | float):
            return _FIELD_OF_NUMBERS % value
        if lua51.lua_type(value) != "table":
            raise CommandError("ERR Cannot serialise this type")
        return self._encode_table(value)

    def _encode_table(self, table: Any) -> str:
        pairs = [*table.items()]
        if pairs and all(type(name) is int and name > 0 for name, _ in pairs):
            if max(name for name, _ in pairs) != len(pairs):
                raise NotImplementedError("no script of ours encodes an array with holes")
            return f"[{','.join(self._encode(each) for _, each in sorted(pairs, key=lambda pair: pair[0]))}]"
        return f"{{{','.join(f'{_quoted(str(name))}:{self._encode(each)}' for name, each in pairs)}}}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("/", "\\/").replace("\x7f", "\\u007f")


def _argument(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return number_text(value)
    raise CommandError("ERR Command arguments must be strings or integers")


def _nothing_runs(name: str, arguments: Sequence[str]) -> Reply:
    raise AssertionError(f"{name} {arguments} outside any script")


@cache
def interpreter() -> Interpreter:
    """The process's own."""
    return Interpreter()
