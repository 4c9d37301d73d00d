#!/bin/sh
# Starts HAProxy with its statistics and metrics listeners on loopback: Ray Serve's template binds them to every
# interface. The frontend already binds where it was told to. $ALLSORTS_HAPROXY is the real program.
previous=""
for argument in "$@"; do
  if [ "$previous" = "-f" ] && [ -f "$argument" ]; then
    sed -i -E 's/^([[:space:]]*bind )\*?:([0-9]+)/\1127.0.0.1:\2/' "$argument"
  fi
  previous="$argument"
done
exec "$ALLSORTS_HAPROXY" "$@"
