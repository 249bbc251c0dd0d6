-- on_tick: write the prices of one frame, latch every run they breach and wake a worker for each, all or nothing.
-- KEYS  1 engine:epoch  2 due  3 queue, or ''
-- ARGV  1 epoch  2 real time the frame was held, us  3 event id prefix
--       4 message for the queue, with {event}, {run} and {reading} where the event's id, its run and the run's fields go
--       5 real time of this call, us
--       then for each tick, oldest first: symbol, price (integer units), exchange time (us), when the price was
--       traded (us) or ''
-- Reply a flat list: run, price, event id for each run latched by this call
local seen_at, prefix = ARGV[2], ARGV[3]
local latched = {}

-- The run as claim would load it, for whoever takes the message; not where it is long, for this blocks the server.
local function reading(run)
  if redis.call('HLEN', 'runtime:' .. run) > 60 then return 'null' end
  local is_read, told = pcall(function() return cjson.encode(loaded(run)) end)
  -- One that cannot be read must not keep back the breaches of others.
  return is_read and told or 'null'
end

-- Whether a price says anything to a run: one traded before it held something does not. One that came late, kept by a
-- listener while the store was away, does where the run is known to have held something by then.
local function concerns(runtime, time, traded_at, is_newest)
  local filled_at = redis.call('HGET', runtime, 'first_fill_at')
  if not filled_at then return is_newest end
  if traded_at ~= '' then return tonumber(traded_at) >= tonumber(filled_at) end
  return is_newest or tonumber(time) >= tonumber(filled_at)
end

for i = 6, #ARGV, 4 do
  local symbol, price, time, traded_at = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local key, at = 'price:' .. symbol, traded_at ~= '' and traded_at or time
  local known = redis.call('HGET', key, 'time')
  local is_newest = not known or tonumber(time) >= tonumber(known)
  if is_newest then
    redis.call('HSET', key, 'price', price, 'time', time)
    if traded_at ~= '' then redis.call('HSET', key, 'traded_at', traded_at) else redis.call('HDEL', key, 'traded_at') end
  end
  -- For runs that are not armed yet; that of another day concerns none of them.
  local low = redis.call('HMGET', 'low:' .. symbol, 'price', 'time')
  if not low[1] or tonumber(price) < tonumber(low[1]) or tonumber(at) > tonumber(low[2]) + 43200000000 then
    redis.call('HSET', 'low:' .. symbol, 'price', price, 'time', at)
  end
  local armed = 'symbol:' .. symbol .. ':strategies'
  for _, run in ipairs(redis.call('ZRANGEBYSCORE', armed, price, '+inf')) do
    local runtime, event_id = 'runtime:' .. run, prefix .. ':' .. run
    if redis.call('EXISTS', runtime) == 0 then
      redis.call('ZREM', armed, run)
    elseif concerns(runtime, time, traded_at, is_newest) then
      latch(run, symbol, price, time, event_id, seen_at, ARGV[5])
      redis.call('HINCRBY', runtime, 'signal_seq', 1)
      redis.call('ZADD', KEYS[2], 'LT', string.format('%d', tonumber(seen_at) + 500000), run)
      if KEYS[3] ~= '' then
        local told = { event = event_id, run = run, reading = reading(run) }
        redis.call('LPUSH', KEYS[3], (string.gsub(ARGV[4], '{(%l+)}', told)))
      end
      latched[#latched + 1] = run
      latched[#latched + 1] = price
      latched[#latched + 1] = event_id
    end
  end
end
return latched
