"""Which pages and under which names the endpoint may be used without a key: browsers' rules, made ours."""
