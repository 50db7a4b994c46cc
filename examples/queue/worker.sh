#!/bin/sh
# A worker that pulls durable events with curl, one at a time. It needs the server's API key:
#
#     STENTOR_API_KEY=… sh worker.sh [address] [name] [room]
#
# It ends when a request fails, so let a service manager start it again.
set -eu
api="${1:-http://127.0.0.1:3000}/api/v1" name="${2:-billing}" room="${3:-orders}"

call() { # method, path, body
	curl --silent --show-error --fail-with-body --max-time 90 --request "$1" "$api/subscribers/$name$2" \
		--header "Authorization: Bearer $STENTOR_API_KEY" --header "Content-Type: application/json" --data "$3"
}

handle() { echo "billing: $1"; }

call PUT "" "{\"rooms\": [\"$room\"]}" > /dev/null
while true; do
	# Waits up to a minute for an event.
	events=$(call POST /pull '{"limit": 1, "wait_ms": 60000}')
	# The first field of an event is its offset.
	offset=$(printf %s "$events" | sed -n 's/^{"events":\[{"offset":"\([^"]*\)".*/\1/p')
	[ -n "$offset" ] || continue
	if handle "$events"; then
		call POST /ack "{\"offsets\": [\"$offset\"]}" > /dev/null
	else
		call POST /nak "{\"offset\": \"$offset\"}" > /dev/null
	fi
done
