#!/bin/sh
# Publishes an event with curl and prints the receipt. It needs the server's API key:
#
#     STENTOR_API_KEY=… sh publish.sh [address] [room] [argument as JSON]
set -eu
: "${STENTOR_API_KEY:?set it to the API key of the server}"
address=${1:-http://127.0.0.1:3000} room=${2:-lobby} argument=${3:-'"hello from curl"'}

curl --silent --show-error --fail-with-body --max-time 10 "$address/api/v1/publish" \
	--header "Authorization: Bearer $STENTOR_API_KEY" --header "Content-Type: application/json" \
	--data "{\"room\": \"$room\", \"event\": \"news\", \"args\": [$argument]}"
echo
