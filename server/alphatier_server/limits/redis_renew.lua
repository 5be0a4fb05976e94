-- Keep the leases of running calls; those that Redis has lost (a restart, a long pause) are entered again, but for
-- those whose end came before this.
-- KEYS: usage, leases, streams, what names of tombstones begin with
-- ARGV: now ('' for Redis' own clock), lease seconds, then for each lease: id, streamed
local EPOCH = 1700000000
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] - EPOCH + time[2] / 1000000
end
local ends = string.format('%.17g', now + ARGV[2])
for i = 3, #ARGV, 2 do
  local lease = ARGV[i]
  if redis.call('EXISTS', KEYS[4] .. lease) == 0 then
    if redis.call('ZADD', KEYS[2], ends, lease) == 1 then
      local requests, reservation = string.match(lease, ':(%d+):(%d+)$')
      redis.call('HINCRBY', KEYS[1], 'running', requests)
      redis.call('HINCRBY', KEYS[1], 'reserved', reservation)
    end
    if ARGV[i + 1] == '1' then redis.call('ZADD', KEYS[3], ends, lease) end
  end
end
local keep = math.ceil((ARGV[2] + 60) * 1000)
for i = 1, 3 do
  if keep > redis.call('PTTL', KEYS[i]) then redis.call('PEXPIRE', KEYS[i], keep) end
end
return 1
