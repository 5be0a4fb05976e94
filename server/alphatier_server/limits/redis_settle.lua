-- Give back the place of a request and book its tokens: limits.py `settle`. A lease that has ended meanwhile has
-- given its reservation back already; its tokens are booked all the same.
-- KEYS: buckets, leases, streams   ARGV: now ('' for Redis' own clock), lease id, reservation, used, tokens interval
local EPOCH = 1700000000
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] - EPOCH + time[2] / 1000000
end
local reservation, used, interval = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('ZREM', KEYS[2], ARGV[2]) == 1 then
  redis.call('ZREM', KEYS[3], ARGV[2])
  local reserved = tonumber(redis.call('HGET', KEYS[1], 'reserved')) or 0
  redis.call('HSET', KEYS[1], 'reserved', string.format('%.0f', math.max(0, reserved - reservation)))
end
if interval and used > 0 then
  local full_at = math.max(tonumber(redis.call('HGET', KEYS[1], 'tokens')) or 0, now) + used * interval
  redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', full_at))
  local keep = math.ceil((full_at - now + 60) * 1000)
  if keep > redis.call('PTTL', KEYS[1]) then redis.call('PEXPIRE', KEYS[1], keep) end
end
return 1
