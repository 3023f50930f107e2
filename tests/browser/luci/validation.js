// Stand-in for LuCI's datatypes: those that luci-app/ names; another one is an error, not a pass.
'use strict';
'require baseclass';

const INTEGER = /^-?[0-9]+$/;
const V4 = /^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}$/;
const v6 = (text) => /^[0-9a-fA-F:]+$/.test(text) && text.split('::').length <= 2 && text.split(':').length <= 8 && text.includes(':');

const TYPES = {
	range: (value, least, most) => (INTEGER.test(value) && +value >= +least && +value <= +most) || _('Expecting: %s').format(_('value between %s and %s').format(least, most)),
	port: (value) => (INTEGER.test(value) && +value >= 0 && +value <= 65535) || _('Expecting: valid port value'),
	uciname: (value) => /^[a-zA-Z0-9_]+$/.test(value) || _('Expecting: valid UCI identifier'),
	ip4addr: (value) => V4.test(value) || _('Expecting: valid IPv4 address'),
	ip6addr: (value) => v6(value) || _('Expecting: valid IPv6 address'),
	cidr: (value) => {
		const parts = value.split('/');

		return (parts.length === 2 && INTEGER.test(parts[1]) && ((V4.test(parts[0]) && +parts[1] <= 32) || (v6(parts[0]) && +parts[1] <= 128))) ||
			_('Expecting: valid CIDR');
	}
};

return baseclass.extend({
	check: function(datatype, value) {
		const found = /^(\w+)(?:\((.*)\))?$/.exec(datatype);

		if (!found || !TYPES[found[1]])
			throw new Error('validation.js of the tests does not know the datatype ' + datatype);

		return TYPES[found[1]](String(value), ...(found[2] ? found[2].split(',') : []));
	}
});
