"""HTTP to this machine's own servers: never through a proxy of the environment, whose loopback is another one."""

import urllib.request

open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
