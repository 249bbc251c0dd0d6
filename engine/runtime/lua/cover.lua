-- cover: keep what an account has, by its broker's positions and order book, for its runs to draw from.
-- KEYS  1 engine:epoch  2 account:{id}  3 account:{id}:held  4 account:{id}:pool  5 account:{id}:fills  6 due
-- ARGV  1 epoch  2 when the broker was asked, us  3 JSON {positions: [[key, units]...],
--       orders: [[client order id, units filled before the positions, and after, '1' once it has ended, units it may
--       have filled at most]...],
--       is_book_read: false where only positions were asked, keep: [key...] that could not be read};
--       a key is "symbol product", "* product" all of a product
--       4 a key to answer for, or ''  5 now, us, by the clock that `due` is told by
--       6 "epoch changes": how often the pool had changed before the broker was asked, '' where it has not since
--       7 the run to answer for
-- Reply {units free, units missing, us, units lacking by known fills} for that key and run, {} without one
-- A symbol that is not named is not held. An older word than the one kept is dropped, unless that is of the future: a
-- clock that was wrong must not keep its reading. Which is older is told by the pool's changes before it is by clocks.
-- A position contains the fills its broker had made, not those the runs have learned of: the book tells the difference.
-- Without the book that is not known where an order may still fill, or a fill was learned of while the broker was
-- asked: the older reading of that symbol stays, and where an order may fill the position is the most there is.
local account, asked_at = KEYS[2], ARGV[2]
local told = cjson.decode(ARGV[3])
local begun_in, begun = string.match(ARGV[6], '^(%S+) (%d+)$')
begun = tonumber(begun or redis.call('HGET', KEYS[4], 'changes') or '0')

-- When two readings say the same, us.
local confirmed_after = 1000000
-- How long all readings must show a short before it is told, and lack units while an order of ours moves before others
-- have taken them, us; and how long before these are taken for good: longer than positions lie.
local short_lasts, lacks_for, taken_after = 5000000, 5000000, 60000000

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
  -- Everything is there, so nothing had been taken: they lagged.
  if count >= by_book and (is_quiet or not units or by_book >= tonumber(contained)) then return by_book, nil, nil end
  -- What was bought a moment ago is not taken by others yet.
  if not is_quiet or by_book - count <= bought_lately(account, key, asked_at) then return by_book, proof, nil end
  return by_book, string.format('%d %d %s %s', count, by_book, since or asked_at, asked_at), nil
end

-- The same proof while an order of ours moves: readings of book and positions that lack units for longer than a book is
-- behind positions. Without it positions that lag behind what an exit sold give it back what others took meanwhile, and
-- it covers the next exit. `least`: the least that the runs hold by the book. Returns the proof as it is now, and what
-- the readings lack, "units since", or nil.
local function proven_beside(key, count, least, proof)
  if count >= least then return proof, nil end
  local lacks, since = string.match(redis.call('HGET', KEYS[3], key .. ' lacks') or '', '^(%d+) (%d+)$')
  lacks = math.min(tonumber(lacks or least - count), least - count)
  since = since or asked_at
  if asked_at - since >= lacks_for then
    local units, contained = string.match(proof or '', '^(%-?%d+) (%-?%d+) ')
    if not units or contained - units <= lacks then
      proof = string.format('%d %d %s %s', count, count + lacks, since, asked_at)
    end
  end
  return proof, string.format('%d %s', lacks, since)
end

-- What is known of the account's orders: client order id -> {units filled, 1 or -1, ended, changes, symbol product}.
local function known_fills()
  local flat, fills = redis.call('HGETALL', KEYS[5]), {}
  for i = 1, #flat, 2 do
    local filled, sign, ended, changes, key = string.match(flat[i + 1], '^(%-?%d+) (%-?%d+) (%d) (%d+) (.+)$')
    fills[flat[i]] = { filled = tonumber(filled), sign = tonumber(sign), has_ended = ended == '1',
                       is_since = tonumber(changes) > begun, key = key }
  end
  return fills
end

-- How many units of an order the positions contain: as few of a sale and as many of a purchase as may be, by which
-- runs sell; and the other way round, by which somebody is told that others sold. `seen`: what the book said, or nil.
-- What was known before the broker was asked is in them, though the book be behind. Of a purchase only once that has
-- lasted: book and positions lag alike. `behind_for`: how long they have, us, where this order is behind.
local function contained_of(order, seen, behind_for)
  local filled, is_sale = order.filled, order.sign < 0
  if not seen then
    if not order.is_since then return filled, filled end
    if is_sale then return 0, filled end
    return filled, 0
  end
  local before, after, is_over = seen[2], seen[3], seen[4] == '1'
  if is_sale then
    -- What it filled is known for good only once its run has settled it.
    local at_most = order.has_ended and after or seen[5]
    return order.is_since and before or math.max(before, filled), math.max(at_most, filled)
  end
  if not is_over or order.is_since or behind_for <= lags_at_most then return after, before end
  return math.max(after, filled), math.max(before, filled)
end

-- Since when the book of each symbol lacks some of a purchase that is over and known to have filled, us, by key. Where
-- the book was not read that goes on. `seen`: what the book said, by order.
local function behind_since(fills, seen)
  local known, since = redis.call('HGETALL', KEYS[3]), {}
  for i = 1, #known, 2 do since[string.match(known[i], '^(.+) behind$') or ''] = known[i + 1] end
  since[''] = nil
  if not told.is_book_read then return since end
  local still = {}
  for id, order in pairs(fills) do
    local said = seen[id]
    if said and said[4] == '1' and order.sign > 0 and said[3] < order.filled then
      still[order.key] = since[order.key] or asked_at
    end
  end
  return still
end

local function tell_short(key, units)
  local symbol, product = string.match(key, '^(.+) (%S+)$')
  local of = redis.call('HMGET', account, 'tenant', 'name')
  local message = string.format('account %s is short %d of %s (%s) since an exit sold it: sold by somebody else at the '
    .. 'same time? Look at the position in the broker\'s app, and buy %d back there if it stands: the engine never '
    .. 'does', of[2] or '', units, symbol, product, units)
  local alert = { severity = 'critical', code = 'account_short', message = message }
  record('', cjson.encode({ kind = 'alert', alerts = { alert } }), false, of[1] or '')
end

-- What is known of a short of `units` (none where they are 0 or less) after our sale at the pool's change `sold`, as
-- `known` says it: "that change, when the broker was first asked after it, since when all readings show a short, units
-- that were told". Each reading may lag, or tell of our sale before it tells of what that sold: only one that lasts is
-- told. More is told once none of our exits may add to it. Returns that, nil where our sale has made none.
local function short_after(key, sold, known, units)
  local of, first, since, told_of = string.match(known or '', '^(%d+) (%d+) (%d+) (%d+)$')
  since, told_of = tonumber(since or '0'), tonumber(told_of or '0')
  if of ~= sold or tonumber(first) > tonumber(asked_at) then first = asked_at end
  local is_ours = asked_at - first <= lags_at_most
  if units <= 0 then
    if not is_ours then return nil end
    told_of = 0
  end
  local may_grow = tonumber(redis.call('HGET', KEYS[4], key .. ' out') or '0') > 0
  if units <= told_of or (told_of > 0 and (may_grow or (since == 0 and not is_ours))) then
    since = 0
  elseif since == 0 or since > tonumber(asked_at) then
    since = asked_at
  elseif asked_at - since >= short_lasts then
    tell_short(key, units)
    since, told_of = 0, units
  end
  return string.format('%s %s %d %d', sold, first, since, told_of)
end

-- The same of every symbol of which we sold lately. One that this reading says nothing of stays as it was.
local function shorts_after(pool, units, is_unread)
  local shorts = {}
  for i = 1, #pool, 2 do
    local key, sold = string.match(pool[i], '^(.+) sold$'), pool[i + 1]
    if key then
      local known = redis.call('HGET', KEYS[3], key .. ' short')
      if begun >= tonumber(sold) and not (is_unread[key] or is_unread['* ' .. string.match(key, '(%S+)$')]) then
        known = short_after(key, sold, known, -(units[key] or 0))
        if not known then redis.call('HDEL', KEYS[4], key .. ' sold') end
      end
      shorts[key] = known or nil
    end
  end
  return shorts
end

local function keep_reading()
  local units, ahead, at_least, unclear, caps, fills, seen = {}, {}, {}, {}, {}, known_fills(), {}
  for _, position in ipairs(told.positions) do units[position[1]] = (units[position[1]] or 0) + position[2] end
  for _, key in ipairs(told.keep) do
    unclear[key] = true
    caps[key] = redis.call('HGET', KEYS[3], key .. ' cap')
  end
  for _, order in ipairs(told.orders) do seen[order[1]] = order end
  local behind = behind_since(fills, seen)
  if told.is_book_read then
    for id, order in pairs(fills) do
      local most, least = contained_of(order, seen[id], asked_at - (behind[order.key] or asked_at))
      ahead[order.key] = (ahead[order.key] or 0) + (most - order.filled) * order.sign
      at_least[order.key] = (at_least[order.key] or 0) + (least - order.filled) * order.sign
      local said = seen[id]
      local is_told = said and said[4] == '1' and said[2] == order.filled and said[3] == order.filled
      -- One in no book of today, for it is of another day or never reached its broker, fills no more.
      if order.has_ended and (is_told or not (said or order.is_since)) then
        redis.call('HDEL', KEYS[5], id)
        fills[id] = nil
      end
    end
  else
    for _, order in pairs(fills) do
      if order.is_since then
        unclear[order.key] = true
        caps[order.key] = redis.call('HGET', KEYS[3], order.key .. ' cap')
      end
    end
    for _, order in pairs(fills) do
      local key = order.key
      if not order.has_ended and not unclear[key] then
        unclear[key] = true
        -- What our exits may have sold of it already counts as sold: it must not count twice.
        local pool = redis.call('HMGET', KEYS[4], key .. ' net', key .. ' out')
        local out = pool[2] or '0'
        caps[key] = string.format('%d %s %s', (units[key] or 0) + tonumber(out), pool[1] or '0', out)
      end
    end
  end
  local pool, net, is_unread = redis.call('HGETALL', KEYS[4]), {}, {}
  for _, key in ipairs(told.keep) do is_unread[key] = true end
  local shorts = shorts_after(pool, units, is_unread)
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
  for _, order in pairs(fills) do
    -- One that has ended, and of which a book that was read told otherwise, may have filled more.
    if not order.has_ended or told.is_book_read then moves[order.key] = true end
  end
  for key, _ in pairs(unclear) do
    kept[key] = redis.call('HMGET', KEYS[3], key, key .. ' others', key .. ' lags', key .. ' lacks')
  end
  for key, count in pairs(units) do
    if not unclear[key] then
      local known = net[key] or 0
      local contained, proof, lags = contains(key, count, known + (ahead[key] or 0), not moves[key])
      local least, lacks = lags and contained or math.min(contained, known + (at_least[key] or 0)), nil
      if moves[key] then
        proof, lacks = proven_beside(key, count, least - bought_lately(account, key, asked_at), proof)
      end
      kept[key] = { string.format('%d %d %s %d', count, contained, asked_at, least), proof, lags, lacks }
    end
  end
  redis.call('DEL', KEYS[3])
  redis.call('HSET', KEYS[3], 'at', asked_at, 'begun', string.format('%d', begun))
  for key, reading in pairs(kept) do
    redis.call('HSET', KEYS[3], key, reading[1] or '?')
    if reading[2] then redis.call('HSET', KEYS[3], key .. ' others', reading[2]) end
    if reading[3] then redis.call('HSET', KEYS[3], key .. ' lags', reading[3]) end
    if reading[4] then redis.call('HSET', KEYS[3], key .. ' lacks', reading[4]) end
  end
  for key, short in pairs(shorts) do redis.call('HSET', KEYS[3], key .. ' short', short) end
  for key, since in pairs(behind) do redis.call('HSET', KEYS[3], key .. ' behind', since) end
  for key, cap in pairs(caps) do
    if cap then redis.call('HSET', KEYS[3], key .. ' cap', cap) end
  end
end

-- Units a run holds that nobody took; nil where an older engine made it, and that is not kept.
local function held_by(runtime)
  local of = redis.call('HMGET', runtime, 'pool_held', 'taken')
  return of[1] and tonumber(of[1]) - tonumber(of[2] or '0')
end

-- The one run that holds something of `key`, and how much; nil where several do: nobody knows whose units were taken.
local function sole_holder(key)
  local found, units
  for _, run in ipairs(redis.call('SMEMBERS', account .. ':runs')) do
    local holds = held_by('runtime:' .. run)
    if (not holds or holds > 0) and pool_key('runtime:' .. run) == key then
      if found or not holds then return nil end
      found, units = run, holds
    end
  end
  return found, units
end

-- What all readings of a minute lack, others took of the run that alone held something as they began to. Positions may
-- lag behind what another bought meanwhile: it neither proves that nor disproves it. What the account had beside its runs
-- is the most of these readings.
local function keep_lack(key, has)
  local run, units, since, beside = string.match(redis.call('HGET', KEYS[4], key .. ' lack') or '',
    '^(%S+) (%d+) (%d+) (%-?%d+)$')
  if has.short == 0 then redis.call('HDEL', KEYS[4], key .. ' lack') end
  if has.missing == 0 then return end
  if not run then run, units = sole_holder(key) end
  if not run then return end
  beside = math.max(tonumber(beside or has.beside), has.beside)
  since = math.min(tonumber(since or asked_at), tonumber(asked_at))
  units = math.min(tonumber(units), has.short)
  if asked_at - since < taken_after then
    redis.call('HSET', KEYS[4], key .. ' lack', string.format('%s %d %d %d', run, units, since, beside))
    return
  end
  redis.call('HDEL', KEYS[4], key .. ' lack', key .. ' back')
  -- It may have sold meanwhile, or have ended.
  units = math.min(units, held_by('runtime:' .. run) or 0)
  if units <= 0 then return end
  take(account, key, 'runtime:' .. run, units)
  redis.call('HSET', 'runtime:' .. run, 'taken_at', asked_at)
  redis.call('HSET', KEYS[4], key .. ' beside', string.format('%d', beside),
    key .. ' taken_at', redis.call('HGET', KEYS[4], 'changes'))
end

-- The run of `key` that units were taken of last, and how many; nil where there is none.
local function last_taken_of(key)
  local last, units, last_at
  for _, run in ipairs(redis.call('SMEMBERS', account .. ':runs')) do
    local of = redis.call('HMGET', 'runtime:' .. run, 'taken', 'taken_at')
    local is_later = tonumber(of[1] or '0') > 0 and tonumber(of[2]) >= (last_at or 0)
    if is_later and pool_key('runtime:' .. run) == key then
      last, units, last_at = 'runtime:' .. run, tonumber(of[1]), tonumber(of[2])
    end
  end
  return last, units
end

-- Units that were taken are there again: of what was taken last first, for that may have been a lie.
local function give_back(key, units)
  redis.call('HINCRBY', KEYS[4], key .. ' beside', string.format('%d', units))
  redis.call('HDEL', KEYS[4], key .. ' back')
  local runtime, taken = last_taken_of(key)
  while runtime and units > 0 do
    take(account, key, runtime, -math.min(taken, units))
    units = units - math.min(taken, units)
    runtime, taken = last_taken_of(key)
  end
end

-- What the account has beside its runs, and had not as units were taken, is theirs again: it had lied, or its owner
-- bought it back. Where no run bought or sold since, at once; else by all readings of some seconds that lag behind no sale.
local function keep_back(key, has)
  local pool = redis.call('HMGET', KEYS[4], key .. ' taken', key .. ' beside', key .. ' taken_at', 'changes', key .. ' back',
    key .. ' sold')
  if tonumber(pool[1] or '0') == 0 then return end
  local more = has.beside - tonumber(pool[2])
  if more > 0 and pool[3] == pool[4] then
    give_back(key, more)
  elseif more <= 0 or pool[6] then
    redis.call('HDEL', KEYS[4], key .. ' back')
  else
    local units, since = string.match(pool[5] or '', '^(%d+) (%d+)$')
    units = math.min(more, tonumber(units or more))
    since = math.min(tonumber(since or asked_at), tonumber(asked_at))
    if asked_at - since < lacks_for then
      redis.call('HSET', KEYS[4], key .. ' back', string.format('%d %d', units, since))
    else
      give_back(key, units)
    end
  end
end

-- Runs whose account lacks what they hold, more or less of it than before, are looked at without any event of their own.
local function wake_runs()
  local pool, changed = redis.call('HGETALL', KEYS[4]), {}
  for i = 1, #pool, 2 do
    local key = string.match(pool[i], '^(.+) held$')
    if key then
      local has = account_has(account, key)
      -- Where this reading told nothing of it, the older one is no second word.
      if has.at == asked_at then
        keep_lack(key, has)
        keep_back(key, has)
        has = account_has(account, key)
      end
      local state = (has.missing > 0 and 'missing ' .. has.missing or 'whole') .. (has.free > 0 and '' or ' none')
      if has.taken > 0 then state = state .. ' ' .. has.taken end
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

local kept_last = redis.call('HMGET', KEYS[3], 'at', 'begun')
local known_at, known_begun = tonumber(kept_last[1] or '0'), tonumber(kept_last[2] or '0')
local is_younger = known_at < tonumber(asked_at) or known_at > now_us() + 2000000
-- One that began before a loss says what a pool contains that is gone.
local is_of_this_epoch = not begun_in or begun_in == epoch
if asked_at ~= '0' and is_of_this_epoch and (begun > known_begun or (begun == known_begun and is_younger)) then
  keep_reading()
  wake_runs()
end
if ARGV[4] == '' then return {} end
local has = run_has(account, ARGV[4], 'runtime:' .. ARGV[7])
return { has.free, has.missing, has.at or asked_at, has.lacks }
