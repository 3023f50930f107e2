# shellcheck shell=dash
# STAND-IN for OpenWrt's /lib/functions/procd.sh, for tests: each procd call is a line of $CALLS, its words in brackets.
_record() {
	_line=
	for _word; do _line="$_line [$_word]"; done
	echo "${_line# }" >>"$CALLS"
}
for _call in open_instance close_instance set_param append_param add_jail add_jail_mount add_jail_mount_rw add_reload_trigger \
	add_interface_trigger set_config_changed; do
	eval "procd_$_call() { _record $_call \"\$@\"; }"
done
procd_add_validation() {
	_record add_validation "$@"
	"$@" ''
}
# What an instance says of itself is one line of JSON.
procd_open_data() { json_init; }
procd_close_data() { echo "data $(json_dump)" >>"$CALLS"; }
