-- Shared head of every script: the epoch check, the ledger, small readers.
--
-- Keys of the live state (one primary; names made inside scripts, so Redis Cluster is not supported):
--   engine:epoch                 string  "n:redis-run-id"; absent or different closes the store
--   strategy:{id}                hash    the standing instruction
--   runtime:{run}                hash    the run; order:{client order id} and evidence:{...} are JSON fields
--   tombstone:{run}              hash    what is left of a run that ended
--   events:{run}                 set     events of the run that have their terminal record
--   lock_state:{run}             string  the holder's token, expiring with its lease
--   symbol:{symbol}:strategies   zset    armed runs by their stop in integer price units
--   latched:{symbol}             set     runs whose stop was breached
--   price:{symbol}               hash    price (units), time (us)
--   low:{symbol}                 hash    the lowest price since the store was opened, with its time, as price:{symbol}
--   account:{id}                 hash    credentials (encrypted), limits; :slots:{class} zset, :rate:{window}:{n} counters,
--                                        :runs set, :health hash: breaker, broker's pauses, refused token,
--                                        :held hash: "symbol product" -> units, and when the broker was asked, us
--   accounts                     set     every account there is details of
--   waiting:{queue}              hash    worker -> what it has taken off the queue and not begun, JSON
--   told:{name}                  string  what is told once was
--   due                          zset    run -> next moment it needs attention (real, us)
--   symbols                      set     symbols with a run
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

-- A breach seen: kept in the run, and recorded, so that no loss takes it away.
local function latch(run, symbol, price, time, event_id, seen_at, latched_at)
  redis.call('ZREM', 'symbol:' .. symbol .. ':strategies', run)
  redis.call('SADD', 'latched:' .. symbol, run)
  redis.call('HSET', 'runtime:' .. run, 'latch_price', price, 'latch_time', time, 'latch_event', event_id,
    'latch_seen_at', seen_at, 'latch_at', latched_at)
  record(run, cjson.encode({ kind = 'latched', event_type = 'STOPLOSS', outcome = 'latched',
    latch = { price = price, time = time, event = event_id, seen_at = seen_at, latched_at = latched_at } }))
end

-- Give a run what its account was seen to hold, where that is newer than what the run knows.
local function see_cover(runtime)
  local fields = redis.call('HMGET', runtime, 'account_id', 'symbol', 'strategy_id', 'net_at')
  local held = 'account:' .. fields[1] .. ':held'
  local at = redis.call('HGET', held, 'at')
  if at and tonumber(at) > tonumber(fields[4] or '0') then
    local product = redis.call('HGET', 'strategy:' .. fields[3], 'product')
    redis.call('HSET', runtime, 'net_quantity', redis.call('HGET', held, fields[2] .. ' ' .. product) or '0', 'net_at', at)
  end
end

-- All that a decision about a run rests on: {runtime fields, strategy fields, account version, facts in its health}.
local function loaded(run)
  local runtime = 'runtime:' .. run
  if redis.call('HGET', runtime, 'epoch') ~= epoch_n then
    -- Last held under another epoch: this server may have lost its last second, and orders with it.
    redis.call('HSET', runtime, 'epoch', epoch_n, 'dirty', '0')
  end
  see_cover(runtime)
  local of = redis.call('HMGET', runtime, 'strategy_id', 'account_id')
  local account = 'account:' .. of[2]
  return { redis.call('HGETALL', runtime), redis.call('HGETALL', 'strategy:' .. of[1]),
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
  redis.call('ZADD', slots, now + tonumber(lease_ms) * 1000, run)
  return true
end

-- Before a call to the broker: keep the slot of this run for another lease, or take one of those for updates.
local function keep_slot(account, run, lease_ms)
  local until_us = now_us() + tonumber(lease_ms) * 1000
  for class, _ in pairs(slot_limits) do
    local slots = account .. ':slots:' .. class
    if redis.call('ZSCORE', slots, run) then
      redis.call('ZADD', slots, until_us, run)
      return true
    end
  end
  return take_slot(account, 'update', run, lease_ms)
end

local function write_fields(key, changes)
  if changes.set then
    for name, value in pairs(changes.set) do redis.call('HSET', key, name, value) end
  end
  if changes.del then
    for _, name in ipairs(changes.del) do redis.call('HDEL', key, name) end
  end
end
