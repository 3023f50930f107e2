# shellcheck shell=dash
# STAND-IN for OpenWrt's /lib/functions.sh and for uci, for tests. A UCI file is read as what it once was: shell.
config() { _section=${2:-cfg$((_sections += 1))} && echo "$_section $1" >>"$_uci/sections"; }
option() { printf '%s\n' "$2" >"$_uci/$_section.$1"; }
list() { printf '%s\n' "$2" >>"$_uci/$_section.$1.list"; }
config_load() {
	_uci=$(mktemp -d) _sections=0
	# shellcheck disable=SC1090
	sh -n "$IPKG_INSTROOT/etc/config/$1" 2>/dev/null && . "$IPKG_INSTROOT/etc/config/$1"
}
config_get() {
	_got=$(cat "$_uci/$2.$3" 2>/dev/null)
	eval "$1=\${_got:-\$4}"
}
config_list_foreach() {
	[ ! -e "$_uci/$1.$2.list" ] || while read -r _item; do "$3" "$_item"; done <"$_uci/$1.$2.list"
}
config_foreach() {
	[ ! -e "$_uci/sections" ] || while read -r _name _type; do [ "$_type" != "$2" ] || "$1" "$_name" "$3"; done <"$_uci/sections"
}
uci() {
	sh -n "$IPKG_INSTROOT/etc/config/bwrouter" 2>/dev/null || { echo "uci: Parse error" >&2; return 1; }
	[ "$2" != get ] || return 1
}

# _is TYPE VALUE: whether the value is of the type, one of those that the init script uses.
_is() {
	case $1 in
		bool) case $2 in 0 | 1 | on | off | true | false | yes | no) ;; *) return 1 ;; esac ;;
		range\(*) _is number "$2" && _low=${1#*\(} && _high=${_low#*,} && [ "$2" -ge "${_low%,*}" ] && [ "$2" -le "${_high%\)}" ] ;;
		port) _is 'range(0,65535)' "$2" ;;
		number) case $2 in '' | *[!0-9]*) return 1 ;; esac ;;
		ip4addr) echo "$2" | grep -Eq '^([0-9]{1,3}\.){3}[0-9]{1,3}$' ;;
		ip6addr) echo "$2" | grep -Eq '^[0-9a-f:]*:[0-9a-f:.]*$' ;;
		'list(cidr)') echo "$2" | grep -Eq '^[0-9a-f.:]+/[0-9]+$' ;;
		'or(range(1,16),"auto")') [ "$2" = auto ] || _is 'range(1,16)' "$2" ;;
		'and(hexstring,rangelength(64,64))') echo "$2" | grep -Eq '^[0-9a-fA-F]{64}$' ;;
		string | 'list(string)') ;;
		*) echo "stand-in: unknown type $1" >&2 && return 1 ;;
	esac
}

# _validate SECTION RULE...: sets the options; prints those that are wrong as /sbin/validate_data does.
_validate() {
	_of=$1 _wrong=0
	shift
	for _rule; do
		_option=${_rule%%:*} _rest=${_rule#*:} _value=
		_kind=${_rest%%:*}
		_default=${_rest#"$_kind"} && _default=${_default#:}
		if [ -e "$_uci/$_of.$_option" ]; then
			_value=$(cat "$_uci/$_of.$_option")
		elif [ -e "$_uci/$_of.$_option.list" ]; then
			_value=$(tr '\n' ' ' <"$_uci/$_of.$_option.list" | sed 's/ $//')
		fi
		if [ -n "$_value" ]; then
			_single=$_value && [ "$_kind" != 'list(cidr)' ] || _single=${_value%% *}
			_is "$_kind" "$_single" || {
				echo "bwrouter.$_of.$_option=$_value validates as $_kind with false"
				_wrong=1 _value=
			}
		fi
		[ "$_kind" != bool ] || case $_value in on | true | yes) _value=1 ;; off | false | no) _value=0 ;; esac
		eval "$_option=\${_value:-\$_default}"
	done
	return "$_wrong"
}
uci_load_validate() {
	[ -n "$3" ] || return 0
	_section=$3 _then=$4
	shift 4
	[ -e "$_uci/sections" ] && _validate "$_section" "$@" >/dev/null
	"$_then" "$_section" $?
}

user_exists() { grep -qs "^$1:" "$IPKG_INSTROOT/etc/passwd"; }
group_exists() { grep -qs "^$1:" "$IPKG_INSTROOT/etc/group"; }
logger() { echo "[logger] [$*]" >>"$CALLS"; }
chown() { echo "[chown] [$*]" | sed "s#$IPKG_INSTROOT##g" >>"$CALLS"; }
