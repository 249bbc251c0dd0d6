-- cover: keep what an account has, by its broker's positions and order book, for its runs to draw from.
-- KEYS  1 engine:epoch  2 account:{id}  3 account:{id}:held  4 account:{id}:pool  5 account:{id}:fills  6 due
-- ARGV  1 epoch  2 when the broker was asked, us  3 JSON {positions: [[key, units]...],
--       orders: [[client order id, units filled, '1' once it has ended]...], is_book_read: false where only positions
--       were asked, keep: [key...] that could not be read}; a key is "symbol product", "* product" all of a product
--       4 a key to answer for, or ''  5 now, us, by the clock that `due` is told by
-- Reply {units free, units missing, us} for that key, {} without one
-- A symbol that is not named is not held. An older word than the one kept is dropped, unless that is of the future: a
-- clock that was wrong must not keep its reading.
-- A position contains the fills its broker had made, not those the runs have learned of: the book tells the difference.
-- Without the book that is not known where an order may still fill: the older reading of that symbol stays, and the
-- position is the most there is.
local account, asked_at = KEYS[2], ARGV[2]
local told = cjson.decode(ARGV[3])

-- How long positions may lag behind what the account's own exits sold, and when two readings say the same, us.
local lags_at_most, confirmed_after = 15000000, 1000000

-- What `count` units contain: what the book says, but for what was sold since and is not missing in them. Where others
-- have taken some, they do not get it back by our sale. `proof` of that is the last reading while no order of ours was
-- under way, "units contained since at": one that moved meanwhile is in only one of book and positions. Where the units
-- moved it must have been read twice, for positions may lag behind a purchase too.
-- Returns that, the proof as it is now, and since when the units lag, us, or nil.
local function contains(key, count, by_book, is_quiet)
  local proof, lags = unpack(redis.call('HMGET', KEYS[3], key .. ' others', key .. ' lags'))
  local units, contained, since, at = string.match(proof or '', '^(%-?%d+) (%-?%d+) (%d+) (%d+)$')
  if units then
    local by_units = count - (units - contained)
    local is_proven = count == tonumber(units) or at - since >= confirmed_after
    if by_book < tonumber(contained) and by_book < by_units and is_proven then
      lags = lags or asked_at
      if asked_at - lags <= lags_at_most then return by_units, proof, lags end
      proof, since = nil, nil
    end
  end
  if not is_quiet then return by_book, proof, nil end
  if count >= by_book then return by_book, nil, nil end
  return by_book, string.format('%d %d %s %s', count, by_book, since or asked_at, asked_at), nil
end

local function keep_reading()
  local units, ahead, unclear, caps = {}, {}, {}, {}
  for _, position in ipairs(told.positions) do units[position[1]] = (units[position[1]] or 0) + position[2] end
  for _, key in ipairs(told.keep) do
    unclear[key] = true
    caps[key] = redis.call('HGET', KEYS[3], key .. ' cap')
  end
  if told.is_book_read then
    for _, order in ipairs(told.orders) do
      local known = redis.call('HGET', KEYS[5], order[1])
      if known then
        local filled, sign, _, key = string.match(known, '^(%-?%d+) (%-?%d+) (%d) (.+)$')
        ahead[key] = (ahead[key] or 0) + (order[2] - tonumber(filled)) * tonumber(sign)
        if order[3] == '1' and order[2] == tonumber(filled) then redis.call('HDEL', KEYS[5], order[1]) end
      end
    end
  else
    for _, known in ipairs(redis.call('HVALS', KEYS[5])) do
      local ended, key = string.match(known, '^%-?%d+ %-?%d+ (%d) (.+)$')
      if ended == '0' and not unclear[key] then
        unclear[key] = true
        -- What our exits may have sold of it already counts as sold: it must not count twice.
        local pool = redis.call('HMGET', KEYS[4], key .. ' net', key .. ' out')
        local out = pool[2] or '0'
        caps[key] = string.format('%d %s %s', (units[key] or 0) + tonumber(out), pool[1] or '0', out)
      end
    end
  end
  local pool = redis.call('HGETALL', KEYS[4])
  local net = {}
  for i = 1, #pool, 2 do
    local key = string.match(pool[i], '^(.+) net$')
    if key then net[key], units[key] = tonumber(pool[i + 1]), units[key] or 0 end
  end
  for _, key in ipairs(told.keep) do
    -- A whole list of a product that could not be read.
    local suffix = string.match(key, '^%*( .+)$')
    for each, _ in pairs(suffix and units or {}) do
      if string.sub(each, -#suffix) == suffix then
        unclear[each], caps[each] = true, redis.call('HGET', KEYS[3], each .. ' cap')
      end
    end
  end
  local kept, moves = {}, {}
  for _, known in ipairs(redis.call('HVALS', KEYS[5])) do
    -- One that has ended, and of which a book that was read told otherwise, may have filled more.
    local ended, key = string.match(known, '^%-?%d+ %-?%d+ (%d) (.+)$')
    if ended == '0' or told.is_book_read then moves[key] = true end
  end
  for key, _ in pairs(unclear) do
    kept[key] = redis.call('HMGET', KEYS[3], key, key .. ' others', key .. ' lags')
  end
  for key, count in pairs(units) do
    if not unclear[key] then
      local contained, proof, lags = contains(key, count, (net[key] or 0) + (ahead[key] or 0), not moves[key])
      kept[key] = { string.format('%d %d %s', count, contained, asked_at), proof, lags }
    end
  end
  redis.call('DEL', KEYS[3])
  redis.call('HSET', KEYS[3], 'at', asked_at)
  for key, reading in pairs(kept) do
    redis.call('HSET', KEYS[3], key, reading[1] or '?')
    if reading[2] then redis.call('HSET', KEYS[3], key .. ' others', reading[2]) end
    if reading[3] then redis.call('HSET', KEYS[3], key .. ' lags', reading[3]) end
  end
  for key, cap in pairs(caps) do
    if cap then redis.call('HSET', KEYS[3], key .. ' cap', cap) end
  end
end

-- Runs whose account lacks what they hold, or has it or some of it again, are looked at without any event of their own.
local function wake_runs()
  local pool, changed = redis.call('HGETALL', KEYS[4]), {}
  for i = 1, #pool, 2 do
    local key = string.match(pool[i], '^(.+) held$')
    if key then
      local free, missing = account_has(account, key)
      local state = (missing > 0 and 'missing' or 'whole') .. (free > 0 and '' or ' none')
      local before = redis.call('HGET', KEYS[4], key .. ' state') or 'whole'
      if state ~= before then
        redis.call('HSET', KEYS[4], key .. ' state', state)
        changed[key] = true
      end
    end
  end
  if not next(changed) then return end
  for _, run in ipairs(redis.call('SMEMBERS', account .. ':runs')) do
    if changed[pool_key('runtime:' .. run)] then redis.call('ZADD', KEYS[6], 'LT', ARGV[5], run) end
  end
end

local known_at = tonumber(redis.call('HGET', KEYS[3], 'at') or '0')
if asked_at ~= '0' and (known_at < tonumber(asked_at) or known_at > now_us() + 2000000) then
  keep_reading()
  wake_runs()
end
if ARGV[4] == '' then return {} end
local free, missing, at = account_has(account, ARGV[4])
return { free, missing, at or asked_at }
