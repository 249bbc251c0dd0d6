-- on_tick: write the prices of one frame, latch every run they breach and wake a worker for each, all or nothing.
-- KEYS  1 engine:epoch  2 due  3 queue, or ''
-- ARGV  1 epoch  2 real time the frame was held, us  3 event id prefix
--       4 message for the queue, with {event}, {run} and {reading} where the event's id, its run and the run's fields go
--       5 real time of this call, us  6 market
--       then for each tick, oldest first: symbol, price (integer units), exchange time (us), when the price was
--       traded (us) or ''
-- Reply a flat list: run, price, event id for each run latched by this call
local seen_at, prefix, market = ARGV[2], ARGV[3], ARGV[6]
local kept_prices = 512
local latched = {}

-- The run as claim would load it, for whoever takes the message; not where it is long, for this blocks the server.
local function reading(run)
  if redis.call('HLEN', 'runtime:' .. run) > 60 then return 'null' end
  local is_read, told = pcall(function() return cjson.encode(loaded(run)) end)
  -- One that cannot be read must not keep back the breaches of others.
  return is_read and told or 'null'
end

-- Whether a price says anything to a run: one traded before it held something does not. One that came late, kept by a
-- listener while the store was away, counts where the run is known to have held something by then.
local function concerns(runtime, time, traded_at, moved_at, is_newest)
  local of = redis.call('HMGET', runtime, 'first_fill_at', 'granted_at')
  local filled_at = tonumber(of[1] or '')
  if not is_newest then return filled_at and tonumber(traded_at ~= '' and traded_at or time) >= filled_at end
  if traded_at == '' or not filled_at or tonumber(traded_at) >= filled_at then return true end
  return has_moved_since(math.max(filled_at, tonumber(of[2] or '0')), time, moved_at)
end

-- Of a symbol's prices, those that no later one reaches: a run that bought since must know the lowest since then. Of a
-- long rise, every second between the lowest and the last.
local function keep_lows(traded)
  local prices, lows, gone = redis.call('ZRANGE', traded, 0, -1), {}, {}
  for i = #prices, 1, -1 do
    local lowest = lows[#lows]
    if lowest and tonumber(prices[i]) >= tonumber(lowest) then gone[#gone + 1] = prices[i] else lows[#lows + 1] = prices[i] end
  end
  if #lows > kept_prices / 2 then
    for i = 2, #lows - 1, 2 do gone[#gone + 1] = lows[i] end
  end
  redis.call('ZREM', traded, unpack(gone))
end

for i = 7, #ARGV, 4 do
  local symbol, price, time, traded_at = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local key, at = price_of(market, symbol), traded_at ~= '' and traded_at or time
  local before = redis.call('HMGET', key, 'price', 'time', 'moved_at')
  local known = before[2]
  local is_newest = not known or tonumber(time) >= tonumber(known)
  -- Kept while the price stays: it proves more with each second in which that is told again.
  local moved_at = before[3]
  if before[1] and before[1] ~= price then moved_at = known end
  if is_newest then
    if moved_at then redis.call('HSET', key, 'moved_at', moved_at) end
    redis.call('HSET', key, 'price', price, 'time', time)
    if traded_at ~= '' then redis.call('HSET', key, 'traded_at', traded_at) else redis.call('HDEL', key, 'traded_at') end
  end
  -- For runs that are not armed yet: the prices traded last, enough for as long as it takes to arm them.
  local traded = traded_of(market, symbol)
  if redis.call('ZADD', traded, 'GT', at, price) == 1 and redis.call('ZCARD', traded) > kept_prices then
    keep_lows(traded)
  end
  local armed = armed_of(market, symbol)
  for _, run in ipairs(redis.call('ZRANGEBYSCORE', armed, price, '+inf')) do
    local runtime, event_id = 'runtime:' .. run, prefix .. ':' .. run
    if redis.call('EXISTS', runtime) == 0 then
      redis.call('ZREM', armed, run)
    elseif redis.call('HEXISTS', runtime, 'latch_time') == 1 then
      local last = tonumber(redis.call('HGET', runtime, 'breached_at') or '0')
      if tonumber(at) > last then redis.call('HSET', runtime, 'breached_at', at) end
    elseif concerns(runtime, time, traded_at, moved_at, is_newest) then
      -- By the trade's own time: a run that is still buying is measured by it at its first fill.
      latch(run, market, symbol, price, at, event_id, seen_at, ARGV[5])
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
