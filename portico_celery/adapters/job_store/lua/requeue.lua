-- Start a failed job afresh. Request: id, knock (microseconds). Answers its row, or nil where it has not failed.

local job = read(request.id)
if not (job and REQUEUABLE[job.status]) then
  return false
end
redis.call('ZREM', ENDED, request.id)
move(request.id, job, 'pending', {
  retry_count = 0,
  run_at = now,
  knocks = 1,
  scheduled_at = false,
  started_at = false,
  failed_at = false,
  error_message = false,
  result_data = false,
  worker_lost = false,
})
redis.call('ZADD', DUE, now + request.knock, request.id)
return whole(request.id)
