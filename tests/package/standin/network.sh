# shellcheck shell=dash
# STAND-IN for OpenWrt's /lib/functions/network.sh, for tests: netifd's answers are the lines `QUERY INTERFACE VALUE` of
# /tmp/network, such as `device wan eth0`.
_netifd() {
	_answer=$(sed -n "s/^$1 $3 //p" "$IPKG_INSTROOT/tmp/network" 2>/dev/null)
	[ -n "$_answer" ] && eval "$2=\$_answer"
}
network_flush_cache() { :; }
for _query in device ipaddr ipaddr6 subnet subnet6 prefix6; do
	eval "network_get_$_query() { _netifd $_query \"\$@\"; }"
done
