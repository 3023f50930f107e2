'use strict';
'require baseclass';

/* Numbers and codes of the agent in the owner's words. Everything here returns text for a text node; nothing returns
   markup. */

const WEI_DIGITS = 18;
const MB = 1e6;

// Why the rate is what it is: status.rate.reason.
const REASONS = {
	'household': _('Your household is using the line; sharing makes way for it.'),
	'delay': _('The line was getting slow to answer, so sharing makes way.'),
	'cap': _('Your cap holds it there. Raise the cap in Settings to share more.'),
	'uplink': _('All that is idle is offered.'),
	'rising': _('Sharing is growing slowly, so that your household does not feel it.'),
	'quota': _('The data allowance that you set is used up. Sharing goes on when the next period begins.'),
	'schedule': _('It is outside the hours that you set for sharing.'),
	'cpu': _('The router\'s processor is busy, so sharing makes way.'),
	'no demand': _('Nobody asks for more at the moment.'),
	'offload': _('Flow offloading hides your household\'s traffic from the counters, so only a small fixed rate is shared. Turn off flow offloading in Network → Firewall to share more.'),
	'counters': _('The WAN interface has no byte counters, so only a small fixed rate is shared. Choose the right WAN interface in Settings.'),
	'starting': _('Sharing has just been started.')
};

// Beginnings of errors that the agent and its commands say, with what to do about them.
const FAULTS = [
	[ /not registered, and stake_wei is 0/, _('No stake is set. Set one on the Wallet page; without it nothing is earned.') ],
	[ /insufficient|ERC20|exceeds balance|reverted/i, _('The chain refused the stake. Most often the wallet holds less BWT than the stake: send BWT to the wallet\'s address or lower the stake.') ],
	[ /the stake is for region/, _('The stake was made for another region. Unstake before you change the region.') ],
	[ /the stake is unbonding/, _('Notice was given. Nothing is earned until the router stakes again.') ],
	[ /the stake is suspended/, _('Audits found less than was promised, and the stake is suspended. Lower the claimed rate to what the line can spare.') ],
	[ /signs with another key/, _('This gateway signs with another key than the one you set. Ask its operator for the right key.') ],
	[ /no gateway is set/, _('No gateway is set. Add one in Settings → Payout and gateways.') ],
	[ /is not registered on the chain/, _('This router has no stake on the chain yet, so it has earned nothing.') ],
	[ /nothing to unstake/, _('There is no stake to take back.') ],
	[ /does not bear the gateway out|its receipt does not hold/, _('What the gateway says is not what the chain proves. Use another gateway.') ],
	[ /no gateway answers|Connection|timed out|timeout|ECONN|EHOST|ETIMEDOUT|unreachable|answer 5/i, _('The gateway does not answer. Sharing goes on; tickets are kept and redeemed later.') ],
	[ /certificate|TLS|SSL|mbedtls/i, _('The gateway\'s certificate is not valid. Is the router\'s clock right?') ],
	[ /interface .* does not exist|setting wan/, _('The WAN interface does not exist. Choose the right one in Settings.') ],
	[ /libsodium/, _('The library libsodium is missing. Install the package libsodium.') ],
	[ /dev\/net\/tun|kmod-tun/, _('The exit needs the package kmod-tun.') ],
	[ /No space|ENOSPC|\[Errno 28\]/, _('The router\'s storage is full. Free some space.') ],
	[ /Read-only|EROFS|\[Errno 30\]/, _('The router\'s storage cannot be written to.') ],
	[ /no backup of|backup is damaged: /, _('This is no backup of keys, or it is damaged.') ],
	[ /passphrase/i, _('The passphrase is wrong, or too short: it wants at least 10 characters.') ],
	[ /key file .* (is missing|is damaged)/, _('A key file is missing or damaged. Restore the keys from a backup on the Wallet page.') ]
];

// What the router itself answers (luci.bwrouter) and how a call can fail.
const FAILURES = {
	'busy': _('The same is under way already. Wait for it to end.'),
	'denied': _('You may look at this page, but not change anything.'),
	'slow': _('It takes longer than two minutes and goes on in the background. Look at the Activity page later.'),
	'service': _('The service could not be started or stopped. The Activity page shows its log.'),
	'passphrase': _('The passphrase wants 10 to 1024 characters in one line.'),
	'file': _('This is no backup of keys, or it is damaged.'),
	'none': _('There is no backup to fetch. Make it again.'),
	'time': _('A pause can last up to 31 days.'),
	'failed': _('The router could not do it. The Activity page shows its log.')
};

// BandwidthProof.Reason, by name and in its order.
const VERDICTS = {
	'good': _('passed'),
	'slow': _('slower than claimed: lower the claimed rate'),
	'unreachable': _('could not be reached: was it off, or is its port closed?'),
	'busy': _('was busy with your household'),
	'corrupt': _('gave wrong bytes'),
	'inconclusive': _('the verifiers disagree: not counted')
};
const VERDICT_ORDER = [ 'good', 'slow', 'unreachable', 'busy', 'corrupt', 'inconclusive' ];

const STAKES = {
	'none': _('no stake'),
	'active': _('active'),
	'suspended': _('suspended'),
	'unbonding': _('notice given')
};

const number = (value, digits) => new Intl.NumberFormat(document.documentElement.lang || 'en',
	{ maximumFractionDigits: digits }).format(value);

return baseclass.extend({
	number: number,

	// kbit/s (null: unknown) as Mbit/s.
	rate: function(kbps) {
		if (kbps == null || isNaN(kbps))
			return _('unknown');

		return _('%s Mbit/s').format(number(kbps / 1000, kbps < 10000 ? 2 : 1));
	},

	// Bytes in decimal units, as providers count.
	bytes: function(count) {
		if (count == null || isNaN(count))
			return _('unknown');

		if (count < 1e9)
			return '%s MB'.format(number(count / MB, count < 10 * MB ? 1 : 0));

		return '%s GB'.format(number(count / 1e9, 2));
	},

	// A decimal string of wei as whole coins with up to `digits` decimals, rounded down. Exact at any size.
	coins: function(wei, digits) {
		const text = String(wei == null ? '' : wei);

		if (!/^[0-9]{1,78}$/.test(text))
			return _('unknown');

		const padded = text.padStart(WEI_DIGITS + 1, '0');
		const whole = padded.slice(0, -WEI_DIGITS).replace(/^0+(?=.)/, '');
		const part = padded.slice(-WEI_DIGITS).slice(0, digits == null ? 4 : digits).replace(/0+$/, '');

		return part ? whole + '.' + part : whole;
	},

	// An amount of the region's tokens.
	tokens: function(wei) {
		return wei == null ? '–' : _('%s tokens').format(this.coins(wei, 6));
	},

	// The wei of `12.5`, or null when the text is no such amount.
	wei: function(coins) {
		const parts = /^([0-9]{1,59})(?:[.,]([0-9]{1,18}))?$/.exec(String(coins).trim());

		return parts ? (parts[1] + (parts[2] || '').padEnd(WEI_DIGITS, '0')).replace(/^0+(?=.)/, '') : null;
	},

	time: function(unix) {
		return unix ? new Date(unix * 1000).toLocaleString() : '–';
	},

	// Seconds as `3 h 20 min`.
	span: function(seconds) {
		const minutes = Math.max(1, Math.round(seconds / 60));

		return minutes < 60 ? _('%d min').format(minutes) : _('%d h %d min').format(minutes / 60, minutes % 60);
	},

	reason: function(code) {
		return REASONS[code] || _('Reason: %s').format(String(code));
	},

	// How sure the agent is of the line's rate (status.rate.uplink_sure).
	sure: function(code, kbps) {
		const known = {
			'measured': _('The line was measured at %s.'),
			'peak': _('The line has carried %s so far; its rate is still being learned.'),
			'unknown': _('The rate of the line is not known yet; %s is tried first.')
		};

		return (known[code] || '%s').format(this.rate(kbps));
	},

	// What an error of the agent means; the error itself where nobody foresaw it.
	fault: function(text) {
		const found = FAULTS.find((entry) => entry[0].test(text));

		return found ? found[1] : String(text).replace(/^bwrouter: /, '');
	},

	failure: function(error) {
		const text = String((error && error.message) || error);

		return FAILURES[text] || this.fault(text);
	},

	// An audit's result, with a sign that needs no colour.
	verdict: function(reason) {
		const code = VERDICT_ORDER[reason] || String(reason).toLowerCase();
		const sign = { 'good': '✓ ', 'busy': '– ', 'inconclusive': '– ' }[code] || '✗ ';

		return sign + (VERDICTS[code] || String(reason));
	},

	// The stake as the chain has it: {stake, state}, or an object without them.
	staked: function(chain) {
		const state = STAKES[chain.state] || String(chain.state);

		return !chain.state || chain.state === 'none' ? STAKES.none : _('%s BWT, %s').format(this.coins(chain.stake, 6), state);
	},

	// What is wrong with the gateways' receipts, from the status: a list of sentences.
	receipts: function(status) {
		const said = [];

		if (L.isObject(status.shortfall))
			said.push(_('The root of epoch %s on the chain holds less than the gateway has signed for. Until it is final anybody can challenge it: "bwrouter challenge" on the router\'s shell prints how.')
				.format(String(status.shortfall.epoch)));

		L.toArray(status.receipt_errors).filter(L.isObject).forEach((error) => said.push(
			(error.code === 'receipt-forged' ? _('A receipt of this gateway is signed by another key, or for another chain: %s. Prefer another gateway.')
				: _('This gateway gives no receipt that the chain would take: %s. Prefer another gateway.')).format(String(error.gateway))));

		return said;
	},

	// How others reach this router, from the status.
	reach: function(status) {
		const reach = status.reach;

		if (L.isObject(reach) && reach.error)
			return this.fault(reach.error);

		const how = L.isObject(reach) ? reach.state : null;
		const words = {
			'public-v4': _('directly, at a public IPv4 address'),
			'public-v6': _('directly, at a public IPv6 address'),
			'mapped': _('through a port that the modem forwards'),
			'anchor': _('through another relay, for this line has no public address'),
			'none': _('not at all: neither a public address nor a forwarded port nor an anchor was found')
		};

		if (how === 'none')
			return words[how];

		const published = L.toArray(status.gateways).some((g) => L.isObject(g) && g.published_until > status.time);

		const listed = published ? _('listed in the directory; buyers can find this router')
			: _('not listed in the directory yet');

		return words[how] ? words[how] + '; ' + listed : listed;
	}
});
