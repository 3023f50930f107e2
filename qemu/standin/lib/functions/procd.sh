# shellcheck shell=dash
# STAND-IN for OpenWrt's /lib/functions/procd.sh, for guests: what an init script says of its instances goes to files below
# /tmp/procd.new/SERVICE, from which /sbin/procd really runs them.
_procd_new=/tmp/procd.new

procd_open_service() {
	_procd_service=$_procd_new/$1
	rm -rf "$_procd_service"
	mkdir -p "$_procd_service"
}
procd_close_service() { /sbin/procd set "$(basename "$_procd_service")"; }
procd_open_instance() {
	_procd_instance=$_procd_service/${1:-instance1}
	mkdir -p "$_procd_instance"
}
procd_close_instance() { :; }
procd_set_param() {
	_param=$1
	shift
	case $_param in
		command | env | file | data | netdev | limits) for _word; do echo "$_word"; done >"$_procd_instance/$_param" ;;
		*) echo "$*" >"$_procd_instance/$_param" ;;
	esac
}
procd_append_param() {
	_param=$1
	shift
	for _word; do echo "$_word"; done >>"$_procd_instance/$_param"
}
# What an instance says of itself, such as the firewall's rules, is JSON by json_add_* of jshn.sh.
procd_open_data() { json_init; }
procd_close_data() { json_dump >"$_procd_instance/data"; }
procd_kill() { /sbin/procd kill "$1"; }
procd_running() { /sbin/procd running "$1" "$2"; }
# Recorded, not acted upon: jails (no ujail is here), triggers (tests reload by hand), the firewall's news.
for _call in add_jail add_jail_mount add_jail_mount_rw add_reload_trigger add_interface_trigger set_config_changed; do
	eval "procd_$_call() { mkdir -p /tmp/procd.calls; echo \"\$*\" >>/tmp/procd.calls/$_call; }"
done
procd_add_validation() { "$@" ''; }
