-- Keep the leases of running requests; those that Redis has lost (a restart, a long pause) are entered again.
-- KEYS: buckets, leases, streams   ARGV: now ('' for Redis' own clock), lease seconds, then for each lease: id, streamed
local EPOCH = 1700000000
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] - EPOCH + time[2] / 1000000
end
local ends = string.format('%.17g', now + ARGV[2])
for i = 3, #ARGV, 2 do
  local lease = ARGV[i]
  if redis.call('ZADD', KEYS[2], ends, lease) == 1 then
    redis.call('HINCRBY', KEYS[1], 'reserved', string.match(lease, ':(%d+)$'))
  end
  if ARGV[i + 1] == '1' then redis.call('ZADD', KEYS[3], ends, lease) end
end
local keep = math.ceil((ARGV[2] + 60) * 1000)
for _, key in ipairs(KEYS) do
  if keep > redis.call('PTTL', key) then redis.call('PEXPIRE', key, keep) end
end
return 1
