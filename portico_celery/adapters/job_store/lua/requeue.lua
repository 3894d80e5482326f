-- Start failed jobs afresh. Request and answer as in walk.lua, and knock (microseconds).

return walk(function(id)
  local job = read(id)
  if not REQUEUABLE[job.status] then
    return false
  end
  redis.call('ZREM', ENDED, id)
  move(id, job, 'pending', {
    retry_count = 0,
    run_at = now,
    knocks = 1,
    scheduled_at = false,
    started_at = false,
    failed_at = false,
    error_message = false,
    result_data = false,
    worker_lost = false,
    unhandled_since = false,
  })
  redis.call('ZADD', DUE, now + request.knock, id)
  return whole(id)
end)
