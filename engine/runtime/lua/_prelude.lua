-- Shared head of every script: the epoch check, the ledger, small readers.
--
-- Keys of the live state (one primary; names made inside scripts, so Redis Cluster is not supported):
--   engine:epoch                 string  "n:redis-run-id"; absent or different closes the store
--   strategy:{id}                hash    the standing instruction; expires after the last of its runs
--   runs_of:{strategy}           set     its live runs
--   runtime:{run}                hash    the run; order:{client order id} and evidence:{...} are JSON fields
--   tombstone:{run}              hash    what is left of a run that ended
--   events:{run}                 set     events of the run that have their terminal record
--   lock_state:{run}             string  the holder's token, expiring with its lease
--   markets                      set     markets with a run; a market is one source of prices, see engine.domain.market
--   symbols:{market}             set     its symbols with a run
--   symbol:{market}:{symbol}:strategies  zset  armed runs by their stop in integer price units
--   latched:{market}:{symbol}    set     runs whose stop was breached
--   price:{market}:{symbol}      hash    price (units), time (us), traded_at (us, absent where not told), moved_at: time
--                                        of the last packet that told another price (us)
--   traded:{market}:{symbol}     zset    price (units) -> when it was last traded since the store was opened, us
--   feed:{market}                hash    symbol -> when a listener last proved that its line lives, us
--   carriers:{market}            hash    listener -> the account that carries its feed, and when it said so, us
--   holding:{market}             set     runs that hold something
--   looked:{market}              hash    at: when its feeds were last looked at; from: when what is seen may be judged, us
--   outage:{market}              hash    tenant -> what it was last told of being blind, JSON
--   account:{id}                 hash    credentials (encrypted), limits; :slots:{class} zset, :rate:{window}:{n} counters,
--                                        :runs set, :health hash: breaker, broker's pauses, refused token,
--                                        :held hash: "symbol product" -> "units net-it-contains us-it-was-asked-at
--                                        least-net-it-may-contain", or "?" where that could not be told; at -> when the
--                                        broker was last asked, us; begun -> the pool's changes before that;
--                                        " cap", " others", " lags", " behind", " lacks", " short" of a key: see cover
--                                        :pool hash: "symbol product net|held|out" -> units, see account_has;
--                                        "symbol product state" -> "missing units" while the account lacks what its runs
--                                        hold, else "whole"; with " none" while none of it may be sold; changes, how
--                                        often it was changed; "symbol product sold" -> changes with our last sale of
--                                        it, while it may be what made the account short; "symbol product bought" ->
--                                        "units us", what was bought lately and when last; "symbol product lack" ->
--                                        "run units us beside", what readings lack of the one run that held something
--                                        as they began to; " taken" -> units of its runs that others took for good, in
--                                        `taken` of each, " beside" and " taken_at" -> what the account had beside its
--                                        runs by then, units, and changes; " back" -> "units us", what came back since
--                                        :fills hash: client order id -> "units filled, 1 or -1, ended, the pool's
--                                        changes by then, symbol product"
--                                        :reading hash: who reads its book (by, until), whether that failed last,
--                                        epoch, at (us) and hints of what was read last; hinted, a count of signals
--                                        :book hash: what a run's client order ids begin with -> its entries, JSON
--                                        :awaits hash: run -> the event it is woken with once the book was read
--   accounts                     set     every account there is details of
--   waiting:{queue}              hash    worker -> what it has taken off the queue and not begun, JSON
--   told:{name}                  string  what is told once was
--   engine:written               string  written only to know that the server takes writes
--   engine:calendar              string  the operator's word on the calendar, JSON
--   due                          zset    run -> next moment it needs attention (real, us)
--   ledger                       stream  every transition's own record: run, epoch, seq, tenant, body
-- Times are epoch microseconds. KEYS[1] is always engine:epoch, ARGV[1] the epoch the caller works under.

local epoch = redis.call('GET', KEYS[1])
if not epoch or epoch ~= ARGV[1] then
  return redis.error_reply('EPOCH the store is closed to epoch ' .. ARGV[1])
end
local epoch_n = string.match(epoch, '^%d+')

local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

-- Whether an event has no terminal record yet; from now on it has.
local function is_news(run, event_id)
  return redis.call('SADD', 'events:' .. run, event_id) == 1
end

-- `repeated`: the event it tells of has its terminal record already, so this one is not another.
local function record(run, body, repeated, whose)
  local seq, tenant
  for _, key in ipairs({ 'runtime:' .. run, 'tombstone:' .. run }) do
    if not seq and redis.call('EXISTS', key) == 1 then
      seq = redis.call('HINCRBY', key, 'record_seq', 1)
      tenant = redis.call('HGET', key, 'tenant') or ''
    end
  end
  if not seq then
    -- Of no run we know: numbered by themselves, and recorded under no run.
    run, seq, tenant = '', redis.call('INCR', 'ledger:orphans'), whose or ''
  end
  redis.call('XADD', 'ledger', '*', 'run', run, 'epoch', epoch_n, 'seq', seq, 'tenant', tenant, 'body', body,
    'repeated', repeated and '1' or '')
end

-- The terminal record of an event that changed nothing.
local function note_event(run, event_id, event_type, outcome)
  if is_news(run, event_id) then
    record(run, cjson.encode({ kind = 'event', event_id = event_id, event_type = event_type, outcome = outcome }))
  end
end

-- Names of what belongs to one symbol of one market, and to the market.
local function price_of(market, symbol) return 'price:' .. market .. ':' .. symbol end
local function traded_of(market, symbol) return 'traded:' .. market .. ':' .. symbol end
local function armed_of(market, symbol) return 'symbol:' .. market .. ':' .. symbol .. ':strategies' end
local function latched_of(market, symbol) return 'latched:' .. market .. ':' .. symbol end

-- The market a run trades in: that of its account, kept in the run by `arm` and `account`.
local function market_of(run)
  return redis.call('HGET', 'runtime:' .. run, 'market') or ''
end

-- When a listener last proved that a symbol's line lives, us, and whether that is too long ago; as in
-- engine.domain.market.
local blind_after = 5000000

local function proven_at(market, symbol)
  local proven = redis.call('HGET', 'feed:' .. market, symbol)
  return proven, not proven or now_us() - tonumber(proven) > blind_after
end

-- Whether a price told at `time` was traded since `since`, whatever clock the trade's own time is by: a packet that is
-- certainly later than `since` told another price, and this one is certainly later than that. Stamps are whole seconds,
-- and packets of one second, from two listeners, come in any order.
local function has_moved_since(since, time, moved_at)
  moved_at = tonumber(moved_at or '')
  return moved_at and moved_at >= (math.floor(since / 1000000) + 1) * 1000000 and tonumber(time) > moved_at
end

-- Keep the index of runs that hold something: theirs is the outage of a feed.
local function note_holding(run, market)
  local position = redis.call('HGET', 'runtime:' .. run, 'position')
  redis.call(position == 'bought' and 'SADD' or 'SREM', 'holding:' .. market, run)
end

-- A breach seen: kept in the run, and recorded, so that no loss takes it away. A run that is not known to hold
-- something stays armed: its first fill decides what counts, and must know of the last breach, not of the first alone.
local function latch(run, market, symbol, price, time, event_id, seen_at, latched_at)
  if redis.call('HEXISTS', 'runtime:' .. run, 'first_fill_at') == 1 then
    redis.call('ZREM', armed_of(market, symbol), run)
  end
  redis.call('SADD', latched_of(market, symbol), run)
  redis.call('HSET', 'runtime:' .. run, 'latch_price', price, 'latch_time', time, 'latch_event', event_id,
    'latch_seen_at', seen_at, 'latch_at', latched_at)
  record(run, cjson.encode({ kind = 'latched', event_type = 'STOPLOSS', outcome = 'latched',
    latch = { price = price, time = time, event = event_id, seen_at = seen_at, latched_at = latched_at } }))
end

-- The last price of a symbol and its time, where it is at or under a stop and concerns a run that bought at `filled_at`
-- what was granted at `granted_at`, us or nil: nothing where it does not. Yesterday's price proves nothing, nor does one
-- that was traded before the fill, however often it was repeated since.
local function reached_by(market, symbol, stop_units, buy_at, filled_at, granted_at)
  local price = redis.call('HMGET', price_of(market, symbol), 'price', 'time', 'traded_at', 'moved_at')
  local fresh = price[1] and tonumber(price[2]) > tonumber(buy_at) - 43200000000
  local is_later = not price[3] or tonumber(price[3]) >= tonumber(filled_at)
    or has_moved_since(math.max(tonumber(filled_at), tonumber(granted_at) or 0), price[2], price[4])
  if fresh and is_later and tonumber(price[1]) <= tonumber(stop_units) then return price[1], price[2] end
end

-- Latch a run on what was traded from `since` on, before it was here to be latched: the lowest price, and the last
-- time any was under its stop. What was traded on another day concerns no run.
local function latch_what_was_missed(run, market, symbol, since, due)
  local key, last = 'runtime:' .. run, redis.call('HMGET', price_of(market, symbol), 'price', 'time', 'traded_at')
  local seen = last[1] and { last[1], last[3] or last[2] } or {}
  local from = string.format('%d', math.max(since, tonumber(last[2] or '0') - 43200000000))
  for _, text in ipairs(redis.call('ZRANGEBYSCORE', traded_of(market, symbol), from, '+inf', 'WITHSCORES')) do
    seen[#seen + 1] = text
  end
  local of = redis.call('HMGET', key, 'stop_units', 'latch_time')
  local lowest, lowest_at, breached_at
  for i = 1, #seen, 2 do
    local price, at = tonumber(seen[i]), tonumber(seen[i + 1])
    if price <= tonumber(of[1]) and at >= since then
      if not lowest or price < lowest then lowest, lowest_at = price, at end
      breached_at = math.max(at, breached_at or 0)
    end
  end
  if not lowest then return end
  if not of[2] then
    local now = string.format('%d', now_us())
    latch(run, market, symbol, string.format('%d', lowest), string.format('%d', lowest_at), 'kept-low-' .. run, now, now)
    redis.call('HINCRBY', key, 'signal_seq', 1)
    redis.call('ZADD', due, 'LT', now, run)
  end
  redis.call('HSET', key, 'breached_at', string.format('%d', breached_at))
end

-- How long an account's positions may lag behind what its own orders bought or sold, us.
local lags_at_most = 15000000

-- Units its runs bought so lately that positions of `at`, us, may lack them. A purchase within that time of the one
-- before it counts with that.
local function bought_lately(account, key, at)
  local bought = redis.call('HGET', account .. ':pool', key .. ' bought')
  local units, last = string.match(bought or '', '^(%d+) (%d+)$')
  return units and tonumber(at) <= last + lags_at_most and tonumber(units) or 0
end

-- What an account has of one symbol in one product, over all its runs: `key` is "symbol product". A table:
--   free     units that may still be sold
--   missing  units its runs hold that the account does not have for certain; what was bought a moment ago is not among
--            them, for positions may lag
--   short    the same with what was bought a moment ago
--   lacks    the same where no sale counts that may have filled untold; all without a reading
--   beside   units it has beside what its runs bought and sold
--   taken    units of its runs that others took for good
--   at       when the broker was asked, us; without a reading it is nil, nothing is missing, and the fills alone count
-- The pool keeps
--   net    units the runs bought less units they sold, by fills they have learned of, since this epoch began
--   held   the same of the runs that live
--   taken  units of these that others took
--   out    units of their exits that may still fill
-- A reading of `units` stands beside the net it already contains, so a fill counts once however late it is learned.
-- Positions that were read without the book since (`key cap`: the most there is, and the net at that time) do not say
-- what they contain; there is no more than they say.
local function account_has(account, key)
  local pool = redis.call('HMGET', account .. ':pool', key .. ' net', key .. ' held', key .. ' out', key .. ' taken')
  local net, held, out = tonumber(pool[1] or '0'), tonumber(pool[2] or '0'), tonumber(pool[3] or '0')
  local taken = tonumber(pool[4] or '0')
  held = held - taken
  local seen = redis.call('HMGET', account .. ':held', key, 'at', key .. ' cap')
  local most, cap, cap_net, cap_out = held, string.match(seen[3] or '', '^(%-?%d+) (%-?%d+) (%d+)$')
  -- What was bought since by what is known may have filled before, and be among them.
  if cap then most = tonumber(cap) + math.min(0, net - tonumber(cap_net)) end
  local at_most = most
  -- What exits were about to sell then is in it for certain only once the book has told whether they sold it.
  if cap then most = most - tonumber(cap_out) end
  if seen[1] == '?' or not (seen[1] or seen[2]) then
    return { free = math.min(held, most) - out, missing = 0, short = 0, lacks = held, beside = 0, taken = taken }
  end
  local units, contained, at, least = string.match(seen[1] or '0 0  0', '^(%-?%d+) (%-?%d+) (%d*) (%-?%d+)$')
  local has, may_have = tonumber(units) + net - tonumber(contained), tonumber(units) + net - tonumber(least)
  if cap then has, may_have = math.min(has, most), math.min(may_have, at_most) end
  at = at ~= '' and at or seen[2]
  local short = math.max(0, held - may_have)
  local missing = math.max(0, short - bought_lately(account, key, at or 0))
  return { free = has - out, missing = missing, short = short, lacks = math.max(0, held - has), beside = has - net,
           taken = taken, at = at }
end

-- The same for one run of it: what others took of its units it lacks, and none of it may sell what another bought since.
local function run_has(account, key, runtime)
  local has, of = account_has(account, key), redis.call('HMGET', runtime, 'taken', 'pool_held', 'pool_out')
  local taken = tonumber(of[1] or '0')
  if taken > 0 then
    has.free = math.min(has.free, tonumber(of[2]) - taken - tonumber(of[3] or '0'))
    has.missing = has.at and has.missing + taken or 0
  end
  return has
end

-- Others took `units` more of what a run holds; fewer than none came back.
local function take(account, key, runtime, units)
  redis.call('HINCRBY', runtime, 'taken', string.format('%d', units))
  redis.call('HINCRBY', account .. ':pool', key .. ' taken', string.format('%d', units))
end

-- What an account's runs have learned of fills, and what they may still sell, by `runtime`, one of them: `change` is
-- {key, net, held, out, fills, past, bought, bought_at}: the differences, for each order {id, units filled, 1 or -1, '1'
-- once it has ended}, how much of `net` was filled in an earlier session, which the reading contains, and what its
-- entries filled, last learned of when, us.
local function change_pool(account, change, runtime)
  local key = change.key
  if change.net == 0 and change.held == 0 and change.out == 0 and #change.fills == 0 then return end
  local changes = redis.call('HINCRBY', account .. ':pool', 'changes', 1)
  for _, name in ipairs({ 'net', 'held', 'out' }) do
    if change[name] ~= 0 then
      redis.call('HINCRBY', account .. ':pool', key .. ' ' .. name, string.format('%d', change[name]))
      if redis.call('HEXISTS', runtime, 'pool_' .. name) == 1 then
        redis.call('HINCRBY', runtime, 'pool_' .. name, string.format('%d', change[name]))
      end
    end
  end
  local of = redis.call('HMGET', runtime, 'taken', 'pool_held')
  local taken, held = tonumber(of[1] or '0'), tonumber(of[2] or '0')
  if taken > held then take(account, key, runtime, held - taken) end
  if change.bought > 0 then
    local lately = bought_lately(account, key, change.bought_at)
    redis.call('HSET', account .. ':pool', key .. ' bought',
      string.format('%d %d', lately + change.bought, change.bought_at))
  end
  local seen = change.past ~= 0 and redis.call('HGET', account .. ':held', key)
  if seen and seen ~= '?' then
    local units, contained, at, least = string.match(seen, '^(%-?%d+) (%-?%d+) (%d*) (%-?%d+)$')
    redis.call('HSET', account .. ':held', key,
      string.format('%s %d %s %d', units, contained + change.past, at, least + change.past))
    redis.call('HDEL', account .. ':held', key .. ' cap', key .. ' others')
  end
  for _, fill in ipairs(change.fills) do
    if fill[3] < 0 and fill[2] > 0 then
      -- From here on a short is looked for, by whoever reads the account: no run may be left that does.
      redis.call('HSET', account .. ':pool', key .. ' sold', string.format('%d', changes))
    end
    redis.call('HSET', account .. ':fills', fill[1],
      string.format('%d %d %s %d %s', fill[2], fill[3], fill[4], changes, key))
  end
end

local function pool_key(runtime)
  local fields = redis.call('HMGET', runtime, 'symbol', 'strategy_id')
  return (fields[1] or '') .. ' ' .. (redis.call('HGET', 'strategy:' .. (fields[2] or ''), 'product') or '')
end

-- A run's fields, with what its account has of its symbol and product: `net_quantity`, `net_missing`, `net_at`.
local function fields_of(runtime)
  local fields, account = redis.call('HGETALL', runtime), redis.call('HGET', runtime, 'account_id') or ''
  local has = run_has('account:' .. account, pool_key(runtime), runtime)
  if has.at then
    for _, value in ipairs({ 'net_quantity', string.format('%d', has.free),
                             'net_missing', string.format('%d', has.missing), 'net_at', has.at }) do
      fields[#fields + 1] = value
    end
  end
  return fields
end

-- All that a decision about a run rests on: {runtime fields, strategy fields, account version, facts in its health}.
local function loaded(run)
  local runtime = 'runtime:' .. run
  if redis.call('HGET', runtime, 'epoch') ~= epoch_n then
    -- Last held under another epoch: this server may have lost its last second, and orders with it.
    redis.call('HSET', runtime, 'epoch', epoch_n, 'dirty', '0', 'unread', '1')
  end
  local of = redis.call('HMGET', runtime, 'strategy_id', 'account_id')
  local account = 'account:' .. of[2]
  return { fields_of(runtime), redis.call('HGETALL', 'strategy:' .. of[1]),
           redis.call('HGET', account, 'version') or '', redis.call('HLEN', account .. ':health') }
end

-- In-flight slots of an account: its share of the threads, so that its dead broker cannot hold them all. One lives as
-- long as the lease of the run that took it.
local slot_limits = { entry = 32, exit = 32, update = 8 }

local function take_slot(account, class, run, lease_ms)
  local slots, now = account .. ':slots:' .. class, now_us()
  redis.call('ZREMRANGEBYSCORE', slots, '-inf', now)
  local limit = tonumber(redis.call('HGET', account, class .. '_slots') or slot_limits[class])
  if redis.call('ZCARD', slots) >= limit then return false end
  -- A run has one slot: that of a holder who lost it is not the one to keep.
  for other, _ in pairs(slot_limits) do redis.call('ZREM', account .. ':slots:' .. other, run) end
  redis.call('ZADD', slots, now + tonumber(lease_ms) * 1000, run)
  return true
end

-- Keep the slot of a run, where it has one, as long as its lock.
local function extend_slot(account, run, lease_ms)
  local until_us = now_us() + tonumber(lease_ms) * 1000
  for class, _ in pairs(slot_limits) do
    local slots = account .. ':slots:' .. class
    if redis.call('ZSCORE', slots, run) then
      redis.call('ZADD', slots, until_us, run)
      return true
    end
  end
  return false
end

-- Before a call to the broker: keep the slot of this run for another lease, or take one of those for updates.
local function keep_slot(account, run, lease_ms)
  return extend_slot(account, run, lease_ms) or take_slot(account, 'update', run, lease_ms)
end

local function write_fields(key, changes)
  if changes.set then
    for name, value in pairs(changes.set) do redis.call('HSET', key, name, value) end
  end
  if changes.del then
    for _, name in ipairs(changes.del) do redis.call('HDEL', key, name) end
  end
end

-- How long a run was blind or naked, ms: counted from look to look, so that a watcher that was away misses nothing.
-- `since`: from when to count at the first look.
local function expose(key, what, is_so, counted_to, since, now)
  if is_so then
    local from = tonumber(counted_to or since or now)
    redis.call('HINCRBY', key, what .. '_ms', math.max(0, math.floor((now - from) / 1000)))
    redis.call('HSET', key, what .. '_at', string.format('%d', now))
  elseif counted_to then
    redis.call('HDEL', key, what .. '_at')
  end
end

-- What was counted since this was recorded last, as a record of the run.
local function record_exposure(run)
  local key = 'runtime:' .. run
  local ms = redis.call('HMGET', key, 'blind_ms', 'naked_ms')
  if not ms[1] and not ms[2] then return end
  redis.call('HDEL', key, 'blind_ms', 'naked_ms')
  record(run, cjson.encode({ kind = 'exposed', blind_ms = tonumber(ms[1] or '0'), naked_ms = tonumber(ms[2] or '0') }))
end
