# shellcheck shell=dash disable=SC1091
# STAND-IN for OpenWrt's /lib/functions.sh, for guests. /lib/functions/standin.sh is tests/package/standin/functions.sh: UCI files
# and validation; here its recording doubles of real commands are dropped, and installing is added.
. /lib/functions/standin.sh
unset -f uci logger chown

_free_id() {
	_id=65536
	while grep -q ":$_id:" /etc/passwd /etc/group; do _id=$((_id + 1)); done
	echo "$_id"
}

# _require_user CONTROL: `Require-User: name:group`, as default_postinst makes them.
_require_user() {
	for _pair in $(sed -n 's/^Require-User: //p' "$1"); do
		_user=${_pair%%[:=]*} _group=${_pair##*:}
		_group=${_group%%=*}
		group_exists "$_group" || echo "$_group:x:$(_free_id):" >>/etc/group
		_gid=$(sed -n "s/^$_group:[^:]*:\([0-9]*\):.*/\1/p" /etc/group)
		user_exists "$_user" || echo "$_user:x:$_gid:$_gid:$_user:/var/run/$_user:/bin/false" >>/etc/passwd
	done
}

default_postinst() {
	_info=/usr/lib/opkg/info/$(basename "${1%.postinst}")
	_require_user "$_info.control"
	[ ! -x "$_info.postinst-pkg" ] || "$_info.postinst-pkg"
	for _file in $(grep '^/etc/uci-defaults/' "$_info.list"); do
		# shellcheck disable=SC1090
		(cd /etc/uci-defaults && . "$_file") && rm -f "$_file"
	done
	for _file in $(grep '^/etc/init.d/' "$_info.list"); do
		[ "$PKG_UPGRADE" = 1 ] || "$_file" enable
		"$_file" start
	done
	return 0
}

default_prerm() {
	_info=/usr/lib/opkg/info/$(basename "${1%.prerm}")
	[ ! -x "$_info.prerm-pkg" ] || "$_info.prerm-pkg"
	for _file in $(grep '^/etc/init.d/' "$_info.list"); do
		[ "$PKG_UPGRADE" = 1 ] || "$_file" disable
		"$_file" stop
	done
	return 0
}
