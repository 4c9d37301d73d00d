#!/bin/sh
# Starts HAProxy with Ray Serve's configuration, changed in eight places. $ALLSORTS_HAPROXY is the real program. Where
# the system can (Linux), it ends with whoever started it: orphaned, it would keep the endpoint's port and answer 503.
#
# - No splicing: with it, HAProxy 2.8 does not notice a client that leaves while its answer is awaited when the
#   request's body came in a second packet, and spins on that connection; the generation would run on for nobody.
# - A deadline for a request's head: without one, a client that sends half a line holds its connection for an hour.
# - A body that fits one buffer (16 kB) must come within that time, too: nothing of it reaches a replica before. Trickled
#   in byte by byte, it would hold its connection for as long as its sender likes.
# - One address holds at most $ALLSORTS_ADDRESS_CONNECTIONS, this machine's own apart: a crowd behind one address leaves
#   room for the others.
# - With $ALLSORTS_LOOPBACK set, the statistics and metrics listeners bind to loopback; Serve's template binds them
#   to every interface. The frontend already binds where it was told to.
# - With $ALLSORTS_HTTP_HOST set, the frontend binds there, and this node's own replicas are looked for there: Serve has
#   one host for all nodes of a cluster, and takes it that what is on this machine listens on 127.0.0.1.
# - Whose server it is: ours, not the one inside that Serve's replica runs.
# - The router hears by itself when a client leaves. Serve would read every body to its end beside it, as fast as it
#   comes, into a queue without a bound: 200 bodies of 8 MB took 370 MB.
# - One x-request-id in an answer, ours: Serve's middleware adds one of its own behind it, which `allsorts explain` does
#   not know.
previous=""
for argument in "$@"; do
  if [ "$previous" = "-f" ] && [ -f "$argument" ]; then
    sed -i -E '/^[[:space:]]*option splice-(request|response|auto)[[:space:]]*$/d' "$argument"
    if ! grep -q 'timeout http-request' "$argument"; then
      sed -i -E '0,/^[[:space:]]*timeout client /s/^([[:space:]]*)timeout client /\1timeout http-request 10s\n&/' "$argument"
    fi
    if ! grep -q 'http-buffer-request' "$argument"; then
      sed -i -E '0,/^[[:space:]]*timeout client /s/^([[:space:]]*)timeout client /\1option http-buffer-request\n&/' "$argument"
    fi
    if [ -n "$ALLSORTS_ADDRESS_CONNECTIONS" ] && ! grep -q 'sc0_conn_cur' "$argument"; then
      table='stick-table type ipv6 size 100k expire 60s store conn_cur'
      track='tcp-request connection track-sc0 src if !{ src 127.0.0.0\/8 ::1 }'
      most="tcp-request connection reject if { sc0_conn_cur gt $ALLSORTS_ADDRESS_CONNECTIONS }"
      sed -i -E "/^frontend http_frontend/,/^[[:space:]]+bind /s/^([[:space:]]+)bind .*/&\n\1$table\n\1$track\n\1$most/" "$argument"
    fi
    if ! grep -q 'set-header x-request-id %\[res' "$argument"; then
      one='http-response set-header x-request-id %[res.fhdr(x-request-id,1)] if { res.fhdr_cnt(x-request-id) gt 1 }'
      sed -i -E "/^frontend http_frontend/,/^[[:space:]]+bind /s/^([[:space:]]+)bind .*/&\n\1$one/" "$argument"
    fi
    if ! grep -q 'set-header server allsorts' "$argument"; then
      name='http-response set-header server allsorts'
      sed -i -E "/^frontend http_frontend/,/^[[:space:]]+bind /s/^([[:space:]]+)bind .*/&\n\1$name/" "$argument"
    fi
    if ! grep -q 'x-request-disconnect-disabled' "$argument"; then
      own='http-request set-header x-request-disconnect-disabled ?1'
      sed -i -E "/^frontend http_frontend/,/^[[:space:]]+bind /s/^([[:space:]]+)bind .*/&\n\1$own/" "$argument"
    fi
    if [ -n "$ALLSORTS_HTTP_HOST" ]; then
      sed -i -E "s/^([[:space:]]*server [^ ]+ )127\.0\.0\.1:/\1$ALLSORTS_HTTP_HOST:/" "$argument"
      sed -i -E "/^frontend http_frontend/,/^[[:space:]]+bind /s/^([[:space:]]+bind )\*?:([0-9]+)/\1$ALLSORTS_HTTP_HOST:\2/" "$argument"
    fi
    if [ -n "$ALLSORTS_LOOPBACK" ]; then
      sed -i -E 's/^([[:space:]]*bind )\*?:([0-9]+)/\1127.0.0.1:\2/' "$argument"
    fi
  fi
  previous="$argument"
done
if setpriv --pdeathsig TERM true 2>/dev/null; then
  exec setpriv --pdeathsig TERM "$ALLSORTS_HAPROXY" "$@"
fi
exec "$ALLSORTS_HAPROXY" "$@"
