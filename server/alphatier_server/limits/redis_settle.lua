-- Give back the places of a call and book its tokens: arithmetic.py `settle`. A lease that has ended meanwhile has
-- given its reservation back already; its tokens are booked all the same, but once: who does not hear from
-- Redis sends this again, and Redis may then find both.
-- KEYS: usage, leases, streams, what names of tombstones begin with, number of the last end booked for this gateway
-- ARGV: now ('' for Redis' own clock), lease id, requests, reservation, used, tokens interval,
--       number of this end (those of a gateway come in this order), late (1 where a command that would enter the
--       lease may still be on its way: a tombstone is left for it)
local EPOCH, LATE_MS = 1700000000, 120000
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] - EPOCH + time[2] / 1000000
end
local lease, requests, reservation, used = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local interval, number = tonumber(ARGV[6]), tonumber(ARGV[7])
if ARGV[8] == '1' then redis.call('SET', KEYS[4] .. lease, '', 'PX', LATE_MS) end
if redis.call('ZREM', KEYS[2], lease) == 1 then
  redis.call('ZREM', KEYS[3], lease)
  local held = redis.call('HMGET', KEYS[1], 'running', 'reserved')
  local running = math.max(0, (tonumber(held[1]) or 0) - requests)
  local reserved = math.max(0, (tonumber(held[2]) or 0) - reservation)
  redis.call('HSET', KEYS[1], 'running', string.format('%.0f', running), 'reserved', string.format('%.0f', reserved))
end
if interval and used > 0 and number > (tonumber(redis.call('GET', KEYS[5])) or -1) then
  redis.call('SET', KEYS[5], ARGV[7], 'PX', LATE_MS)
  local full_at = math.max(tonumber(redis.call('HGET', KEYS[1], 'tokens')) or 0, now) + used * interval
  redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', full_at))
  local keep = math.ceil((full_at - now + 60) * 1000)
  if keep > redis.call('PTTL', KEYS[1]) then redis.call('PEXPIRE', KEYS[1], keep) end
end
return 1
