# shellcheck shell=dash disable=SC2034
# STAND-IN for libubox's jshn.sh, for tests: builds one JSON text in the order of the calls.
json_init() { _json='{' _comma='' _ends='}'; }
_name() {
	case $_ends in ']'*) _json="$_json$_comma" ;; *) _json="$_json$_comma\"$1\":" ;; esac
	_comma=,
}
_open() {
	_name "$1"
	_json="$_json$2" _comma='' _ends="$3$_ends"
}
_close() { _json="$_json${_ends%"${_ends#?}"}" _ends=${_ends#?} _comma=,; }
json_add_string() {
	_name "$1"
	_json="$_json\"$(printf %s "$2" | sed 's/[\\"]/\\&/g')\""
}
json_add_int() { _name "$1" && _json="$_json$2"; }
json_add_boolean() { _name "$1" && case $2 in 1) _json="${_json}true" ;; *) _json="${_json}false" ;; esac; }
json_add_array() { _open "$1" '[' ']'; }
json_add_object() { _open "$1" '{' '}'; }
json_close_array() { _close; }
json_close_object() { _close; }
json_dump() { printf '%s}\n' "$_json"; }
