'use strict';
'require view';
'require form';
'require ui';
'require bwrouter.words as words';

const DAYS = '(mon|tue|wed|thu|fri|sat|sun)';
const HOURS = new RegExp('^' + DAYS + '(-' + DAYS + ')? ([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$');
const RULE = /^(\[[0-9a-fA-F:.]+(\/[0-9]+)?\](:[0-9]+)?|[0-9.]+(\/[0-9]+)?(:[0-9]+)?|[0-9a-fA-F:]+(\/[0-9]+)?)$/;

// An option that the owner reads and writes in units of `factor`, and UCI in whole numbers.
function scaled(option, factor) {
	option.cfgvalue = function(section) {
		const value = form.Value.prototype.cfgvalue.apply(this, arguments); // LuCI's load gives the value as a second one

		return value == null || value === '' || isNaN(value) ? value : String(+value / factor);
	};
	option.write = function(section, value) {
		return form.Value.prototype.write.apply(this, [ section, String(Math.round(+value * factor)) ]);
	};
}

function between(least, most, unit) {
	return (section, value) => value === '' || (/^[0-9]+([.][0-9]+)?$/.test(value) && +value >= least && +value <= most) ||
		_('Expecting a number from %s to %s %s').format(least, most, unit);
}

function matching(pattern, text) {
	return (section, value) => value === '' || value == null || pattern.test(value) || text;
}

// The exit's second consent. The box stays empty unless the owner agrees.
function askForExit(box) {
	const refuse = () => {
		box.checked = false;
		box.dispatchEvent(new Event('change', { bubbles: true }));
		ui.hideModal();
	};

	ui.showModal(_('Let traffic of others out under your address?'), [
		E('p', {}, [ _('An exit sends what buyers do on the internet from this line\'s own address. To websites, to your provider and to the police it looks as if it came from your household.') ]),
		E('ul', { 'class': 'bw-list' }, [
			_('Complaints, blocked accounts and questions from authorities will reach you first.'),
			_('Private networks, your home and port 25 are never reached. What else is refused, you decide.'),
			_('In some countries, and under many contracts of private lines, this is not allowed.')
		].map((line) => E('li', {}, [ line ]))),
		E('div', { 'class': 'right' }, [
			E('button', { 'class': 'btn', 'type': 'button', 'click': refuse }, [ _('Keep relay only') ]), ' ',
			E('button', { 'class': 'btn cbi-button cbi-button-negative', 'type': 'button', 'click': ui.hideModal }, [ _('I understand: allow the exit') ])
		])
	]);
}

function caps(s) {
	let o;

	s.tab('caps', _('Caps'));

	o = s.taboption('caps', form.Flag, 'enabled', _('Share'), _('Off: nothing runs, nothing listens, nothing is sent.'));
	o.rmempty = false;

	o = s.taboption('caps', form.Value, 'cap_kbps', _('Most that is shared (Mbit/s)'), _('0: no cap beside what is idle.'));
	o.placeholder = '0';
	o.validate = between(0, 10000, 'Mbit/s');
	scaled(o, 1000);

	o = s.taboption('caps', form.Value, 'share_pct', _('Share of the idle upstream (%)'), _('How much of what your household leaves over may be used.'));
	o.datatype = 'range(1,100)';
	o.placeholder = '100';

	o = s.taboption('caps', form.Value, 'quota_day_mb', _('Most in a day (GB)'), _('Counted on the line, headers included. 0: no limit.'));
	o.placeholder = '0';
	o.validate = between(0, 1000000, 'GB');
	scaled(o, 1000);

	o = s.taboption('caps', form.Value, 'quota_month_mb', _('Most in a month (GB)'), _('0: no limit.'));
	o.placeholder = '0';
	o.validate = between(0, 1000000, 'GB');
	scaled(o, 1000);

	o = s.taboption('caps', form.Value, 'billing_day', _('Day on which the month begins'), _('Your internet provider\'s billing day, 1 to 28.'));
	o.datatype = 'range(1,28)';
	o.placeholder = '1';

	o = s.taboption('caps', form.Value, 'uplink_kbps', _('Upstream rate of the line (Mbit/s)'), _('0: learned from what the line has carried.'));
	o.placeholder = '10';
	o.validate = between(0, 10000, 'Mbit/s');
	scaled(o, 1000);

	o = s.taboption('caps', form.Value, 'reserve_pct', _('Reserve that is never used (%)'));
	o.datatype = 'range(0,90)';
	o.placeholder = '5';
}

function schedule(s) {
	s.tab('schedule', _('Schedule'));

	const o = s.taboption('schedule', form.DynamicList, 'hours', _('Hours of sharing'),
		_('Local time. Days, then hours, like: mon-fri 22:00-06:00 or sat-sun 00:00-24:00. Hours may pass midnight. Empty: always.'));
	o.placeholder = 'mon-fri 22:00-06:00';
	o.validate = matching(HOURS, _('Expecting days and hours, like: mon-fri 22:00-06:00'));
}

function role(s) {
	let o;

	s.tab('role', _('Region and role'));

	o = s.taboption('role', form.Value, 'region', _('Region'), _('Number of the region whose tokens buy this router\'s capacity. Unstake before you change it.'));
	o.datatype = 'range(1,65535)';
	o.placeholder = '1';

	o = s.taboption('role', form.Value, 'rate_kbps', _('Rate claimed on the chain (Mbit/s)'), _('It is audited: claim what the line can spare.'));
	o.placeholder = '10';
	o.validate = between(0.064, 10000, 'Mbit/s');
	scaled(o, 1000);

	o = s.taboption('role', form.Flag, 'exit', _('Exit: let traffic out to the internet here'), _('Off: this router only relays, and no traffic of others appears under your address.'));
	o.rmempty = false;
	o.onchange = function(ev, section, value) {
		const box = ev.target.matches('input[type="checkbox"]') ? ev.target : ev.target.querySelector('input[type="checkbox"]');

		if (value === '1' && box)
			askForExit(box);
	};

	[ [ 'exit_allow', _('Destinations allowed'), _('Empty: all but those refused. CIDR, CIDR:port or [CIDR]:port.') ],
	  [ 'exit_deny', _('Destinations refused'), _('Beside private ranges, your home and port 25, which always are.') ] ].forEach((rule) => {
		o = s.taboption('role', form.DynamicList, rule[0], rule[1], rule[2]);
		o.depends('exit', '1');
		o.validate = matching(RULE, _('Expecting CIDR, CIDR:port or [CIDR]:port'));
	});

	o = s.taboption('role', form.Value, 'exit_tun', _('Name of the exit\'s TUN device'));
	o.depends('exit', '1');
	o.placeholder = 'bwexit0';
	o.validate = matching(/^[A-Za-z0-9_.-]{1,15}$/, _('Expecting an interface name of up to 15 characters'));
}

function payout(s) {
	let o;

	s.tab('payout', _('Payout and gateways'));

	o = s.taboption('payout', form.Value, 'payout', _('Account that earnings go to'), _('0x and 40 hex digits. Empty: this router\'s own wallet.'));
	o.validate = matching(/^0x[0-9a-fA-F]{40}$/, _('Expecting 0x and 40 hex digits'));

	o = s.taboption('payout', form.Value, 'stake_wei', _('Stake to hold (BWT)'), _('0: an existing stake is used, none is made.'));
	o.placeholder = '0';
	o.validate = (section, value) => value === '' || words.wei(value) != null || _('Expecting an amount, like 100 or 12.5');
	o.cfgvalue = function(section) {
		const value = form.Value.prototype.cfgvalue.apply(this, arguments); // LuCI's load gives the value as a second one

		return value && /^[0-9]+$/.test(value) ? words.coins(value, 18) : value;
	};
	o.write = function(section, value) {
		return form.Value.prototype.write.apply(this, [ section, words.wei(value) ]);
	};
}

function advanced(s) {
	let o;

	s.tab('advanced', _('Advanced'));

	o = s.taboption('advanced', form.Value, 'wan', _('WAN interface'), _('By its name in Network → Interfaces.'));
	o.placeholder = 'wan';
	o.datatype = 'uciname';

	o = s.taboption('advanced', form.Value, 'wan6', _('WAN interface for IPv6'));
	o.placeholder = 'wan6';
	o.datatype = 'uciname';

	o = s.taboption('advanced', form.DynamicList, 'lan', _('Interfaces of the home'), _('Others never reach what is behind them.'));
	o.placeholder = 'lan';
	o.datatype = 'uciname';

	o = s.taboption('advanced', form.DynamicList, 'lan_prefix', _('More prefixes of the home'), _('Never relayed to, in CIDR.'));
	o.datatype = 'cidr';

	o = s.taboption('advanced', form.Value, 'firewall_zone', _('Firewall zone'), _('The relay\'s port is opened there while the service runs.'));
	o.placeholder = 'wan';
	o.datatype = 'uciname';

	o = s.taboption('advanced', form.Value, 'listen_port', _('UDP port of the relay'));
	o.datatype = 'port';
	o.placeholder = '51900';

	o = s.taboption('advanced', form.Value, 'public_v4', _('Public IPv4 address'), _('Empty: the WAN interface\'s. Set it where a modem forwards the port.'));
	o.datatype = 'ip4addr("nomask")';

	o = s.taboption('advanced', form.Value, 'public_v6', _('Public IPv6 address'), _('Empty: the WAN interface\'s.'));
	o.datatype = 'ip6addr("nomask")';

	o = s.taboption('advanced', form.Value, 'floor_kbps', _('Rate while nothing is known (kbit/s)'), _('Shared while the household\'s own traffic cannot be seen.'));
	o.datatype = 'range(8,10000)';
	o.placeholder = '64';

	o = s.taboption('advanced', form.Flag, 'anchor', _('Help routers without a public address'), _('They are found through this router. Costs a few packets a minute.'));
	o.default = '1';

	o = s.taboption('advanced', form.Flag, 'mark_le', _('Mark packets as lower effort'), _('LE, RFC 8622: shapers that know it put these packets last.'));
	o.default = '1';

	o = s.taboption('advanced', form.Flag, 'shaper', _('Shape the WAN'), _('With HTB, only where nobody else shapes it. A qdisc that somebody else set is never touched.'));

	o = s.taboption('advanced', form.Value, 'workers', _('Processes that relay'), _('Each has a port of its own, from the port above on. auto: one for each processor core.'));
	o.placeholder = '1';
	o.validate = matching(/^(auto|[1-9]|1[0-6])$/, _('Expecting auto or a number from 1 to 16'));

	o = s.taboption('advanced', form.Value, 'ca_file', _('Certificates of authorities'), _('A PEM file that gateways\' certificates are checked by. Empty: the system\'s.'));
	o.validate = matching(/^\/[^\s'"<>]{1,199}$/, _('Expecting the path of a file'));

	o = s.taboption('advanced', form.Value, 'max_circuits', _('Circuits at a time'));
	o.datatype = 'range(1,4096)';
	o.placeholder = '256';

	o = s.taboption('advanced', form.ListValue, 'log_level', _('Log level'));
	[ [ 'debug', _('Debug') ], [ 'info', _('Info') ], [ 'warning', _('Warning') ], [ 'error', _('Error') ] ]
		.forEach((level) => o.value(level[0], level[1]));
	o.default = 'info';
}

function gateways(main) {
	const s = main.taboption('payout', form.SectionValue, '_gateways', form.TypedSection, 'gateway', _('Gateways'),
		_('They list this router, open and redeem its tickets and pay it. The preferred one comes first. Take a gateway\'s key from its operator by another way than the URL\'s own site.')).subsection;
	let o;

	s.anonymous = true;
	s.addremove = true;

	o = s.option(form.Value, 'url', _('URL'));
	o.rmempty = false;
	o.placeholder = 'https://gateway.example.org';
	o.validate = matching(/^https?:\/\/[^\s"'<>]+$/, _('Expecting http:// or https:// and a host'));

	o = s.option(form.Value, 'key', _('Key'));
	o.rmempty = false;
	o.validate = matching(/^[0-9a-f]{64}$/, _('Expecting 64 lower-case hex digits'));
}

return view.extend({
	render: function() {
		const m = new form.Map('bwrouter', _('Bandwidth Sharing'), _('What is not set keeps its default, which each field shows in grey.'));
		const s = m.section(form.NamedSection, 'main', 'bwrouter');

		[ caps, schedule, role, payout, gateways, advanced ].forEach((part) => part(s));

		return m.render().then((node) => E('div', { 'class': 'bw' }, [
			E('link', { 'rel': 'stylesheet', 'href': L.resource('bwrouter/style.css') }), node ]));
	}
});
