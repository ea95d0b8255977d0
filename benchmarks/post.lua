-- For wrk: sends one request over and over and prints what happened as one line of JSON.
-- Arguments: a file with header lines, an empty line, and the body; then "traced" to give every request a traceparent of
-- its own, as callers under tracing do.

local count = 0

local function traced()
  count = count + 1
  wrk.headers["traceparent"] = ("00-%032x-%016x-01"):format(count, count)
  return wrk.format()
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  for line in file:lines() do
    if line == "" then break end
    local name, value = line:match("^(.-): (.*)$")
    wrk.headers[name] = value
  end
  wrk.body = file:read("*a")
  file:close()
  if args[2] == "traced" then request = traced end
end

function done(summary, latency, _)
  local e = summary.errors
  local form = '\nRESULT {"requests":%d,"seconds":%.6f,"bad_statuses":%d,"broken":%d,"p50_ms":%.3f,"p99_ms":%.3f}\n'
  local broken = e.connect + e.read + e.write + e.timeout
  local p50, p99 = latency:percentile(50) / 1000, latency:percentile(99) / 1000
  io.write(form:format(summary.requests, summary.duration / 1e6, e.status, broken, p50, p99))
end
