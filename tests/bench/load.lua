-- wrk script: POST the bodies of a file, one per line, in turn. Prints one JSON line.
-- usage: wrk ... -s load.lua URL -- BODIES_FILE KEY
local requests, count, index = {}, 0, 0

function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer " .. args[2]
  for line in io.lines(args[1]) do
    count = count + 1
    requests[count] = wrk.format(nil, nil, nil, line)
  end
end

function request()
  index = index % count + 1
  return requests[index]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"answers":%d,"seconds":%.4f,"p50_ms":%.3f,"p99_ms":%.3f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
