'use strict';
'require view';
'require dom';
'require poll';
'require uci';
'require ui';
'require bwrouter.backend as backend';
'require bwrouter.parts as parts';
'require bwrouter.words as words';

const POLL_S = 3;
const ADDRESS = /^0x[0-9a-fA-F]{40}$/;
const PASSPHRASE_MIN = 10;

// A QR code of an address, drawn by LuCI's uqr where it is installed; nothing where it is not.
function code(uqr, address) {
	if (!uqr || !ADDRESS.test(address))
		return '';

	const drawn = new DOMParser().parseFromString(uqr.renderSVG(address, { pixelSize: 6, border: 2 }), 'image/svg+xml').documentElement;

	if (!drawn.hasAttribute('viewBox'))
		drawn.setAttribute('viewBox', '0 0 %d %d'.format(drawn.getAttribute('width'), drawn.getAttribute('height')));

	drawn.setAttribute('role', 'img');
	drawn.setAttribute('aria-label', _('QR code of the wallet\'s address'));

	return E('div', { 'class': 'bw-qr' }, [ drawn ]);
}

function save(name, text) {
	const url = URL.createObjectURL(new Blob([ text ], { type: 'application/octet-stream' }));
	const link = E('a', { 'href': url, 'download': name });

	document.body.appendChild(link);
	link.click();
	link.remove();
	setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function field(id, title, attributes) {
	const input = E('input', Object.assign({ 'id': id, 'class': 'cbi-input-text', 'type': 'text' }, attributes));

	return { input: input, node: E('label', { 'for': id }, [ title, input ]) };
}

return view.extend({
	load: function() {
		return Promise.all([ backend.status(), uci.load('bwrouter'), L.require('uqr').catch(() => null) ]);
	},

	render: function(loaded) {
		this.uqr = loaded[2];
		this.address = E('div');
		this.stake = E('div');
		this.earnings = E('div');
		this.found = E('div', { 'role': 'status' });
		this.shown = null;
		poll.add(() => backend.status().then((answer) => this.show(answer)), POLL_S);
		this.show(loaded[0]);

		const card = (title, children) => E('section', { 'class': 'bw-card', 'aria-label': title }, [ E('h3', {}, [ title ]) ].concat(children));

		return parts.page([
			E('h2', {}, [ _('Wallet') ]),
			card(_('Address'), [ this.address ]),
			card(_('Stake'), [ this.stake, this.stakeForm() ]),
			card(_('Earnings'), [ this.earnings, E('div', { 'class': 'bw-buttons' }, [
				parts.button(_('Check against the chain'), 'action', () => this.check()),
				parts.button(_('Claim…'), 'action', () => this.claim()) ]), this.found ]),
			card(_('Keys'), this.keyForms())
		]);
	},

	show: function(answer) {
		const status = L.isObject(answer.status) ? answer.status : null;

		this.status = status;

		if (!status) {
			dom.content(this.address, [ E('p', {}, [ _('Nothing is known while the service is not running.') ]) ]);
			dom.content(this.stake, []);
			dom.content(this.earnings, []);
			this.shown = null;
			return;
		}

		if (this.shown !== status.wallet) {
			this.shown = status.wallet;
			dom.content(this.address, [
				E('p', {}, [ _('Send BWT for the stake to this address. A router needs no coin for fees: gateways send its transactions.') ]),
				code(this.uqr, status.wallet),
				E('p', { 'class': 'bw-mono', 'id': 'bw-address' }, [ status.wallet ])
			]);
		}

		const chain = status.stake.chain || {}, earnings = status.earnings || {};

		dom.content(this.stake, [ parts.facts([
			[ _('On the chain'), words.staked(chain) ],
			[ _('Free'), status.free ? _('%s BWT').format(words.coins(status.free.wei, 6)) : '–' ],
			[ _('Wanted'), _('%s BWT').format(words.coins(status.stake.wanted_wei, 6)) ],
			[ _('Claimed rate'), chain.rate_kbps ? words.rate(chain.rate_kbps) : '–' ],
			[ _('Verified'), status.proved ? _('by this router at block %d').format(status.proved.block) : status.proof_error ? words.fault(status.proof_error) : _('not yet') ],
			status.stake.tx ? [ _('Last transaction'), E('span', { 'class': 'bw-mono' }, [ status.stake.tx ]) ] : null,
			status.stake.error ? [ _('Stake needs you'), E('span', { 'class': 'bw-bad' }, [ words.fault(status.stake.error) ]) ] : null
		].filter((pair) => pair)) ]);
		dom.content(this.earnings, [ parts.facts([
			[ _('Earned in all'), words.tokens(earnings.cumulative_wei) ],
			[ _('Paid out'), words.tokens(earnings.claimed_wei) ],
			[ _('Paid to'), E('span', { 'class': 'bw-mono' }, [ status.payout ]) ],
			[ _('It holds'), words.tokens(earnings.balance_wei) ]
		]) ]);
	},

	stakeForm: function() {
		const amount = field('bw-stake', _('Stake to hold (BWT)'), { 'inputmode': 'decimal',
			'value': words.coins(uci.get('bwrouter', 'main', 'stake_wei') || '0', 18) });

		return E('div', { 'class': 'bw-row' }, [ amount.node,
			parts.button(_('Stake…'), 'positive', () => this.askStake(amount.input.value)),
			parts.button(_('Unstake…'), 'negative', () => this.askUnstake()) ]);
	},

	askStake: function(text) {
		const wei = words.wei(text);

		if (wei == null || /^0*$/.test(wei))
			throw new Error(_('This is no amount: %s').format(text));

		parts.confirm(_('Stake %s BWT?').format(words.coins(wei, 18)), [
			_('The router signs for exactly this amount, and a gateway brings it on the chain. No fee is taken from your wallet; the gateway pays the chain\'s.'),
			_('The stake can be lost if audits prove that the router claims more than it delivers. After notice it is locked for the unbonding time.')
		], _('Stake'), () => parts.setMain({ 'stake_wei': wei }).then(() => backend.service('reload')).then(() => {
			ui.addNotification(null, E('p', {}, [ _('The stake is on its way. This page shows it when it is on the chain.') ]), 'info');
		}));
	},

	askUnstake: function() {
		const chain = (this.status && this.status.stake.chain) || {};

		parts.confirm(_('Take the stake back?'), [
			_('Stake: %s BWT.').format(words.coins(chain.stake || '0', 6)),
			_('The router is offered no traffic from then on and earns nothing. The stake is free after the unbonding time, which outlasts every audit and dispute. No fee is taken.')
		], _('Give notice'), () => backend.order('unstake').then((sent) => {
			ui.addNotification(null, E('p', {}, [ _('Notice was given in transaction %s').format(sent.tx) ]), 'info');

			// So that the router does not stake again by itself once the stake is free.
			return uci.get('bwrouter', 'main', 'stake_wei') > '0' ? parts.setMain({ 'stake_wei': '0' }) : null;
		}));
	},

	check: function() {
		return backend.order('earnings').then((said) => {
			dom.content(this.found, [ E('p', {}, [ said.proved
				? _('The chain bears it out at block %d: %s tokens paid out, %s units redeemed.').format(said.proved.block, words.coins(said.claimed_wei, 6), said.units)
				: words.fault(String(said.proof_error)) ]) ]);
		});
	},

	// Gateways claim by themselves. Where one does not, any wallet may.
	claim: function() {
		return backend.order('claim').then((found) => {
			if (!found.data) {
				dom.content(this.found, [ E('p', {}, [ _('Nothing is due: %s tokens have been paid out.').format(words.coins(found.claimed_wei, 6)) ]) ]);
				return;
			}

			parts.confirm(_('%s tokens are due').format(words.coins(found.due_wei, 6)), [
				_('They go to %s and to nobody else.').format(found.account),
				found.final ? _('The gateway claims for you within its next round, and pays the fee.')
					: _('They can be claimed when the challenge time of their epoch is over. The gateway claims for you then, and pays the fee.'),
				_('Should it not, any wallet may send this transaction and pays the chain\'s fee for it:'),
				parts.facts([ [ _('To'), E('span', { 'class': 'bw-mono' }, [ found.to ]) ], [ _('Data'), E('textarea', { 'class': 'bw-mono', 'readonly': '', 'rows': 4, 'style': 'width:100%', 'aria-label': _('Data') }, [ found.data ]) ] ])
			], _('Keep as a file'), () => save('bwrouter-claim.json', JSON.stringify({ to: found.to, data: found.data }) + '\n'));
		});
	},

	keyForms: function() {
		const secret = { 'type': 'password', 'autocomplete': 'new-password', 'class': 'cbi-input-password' };
		const first = field('bw-pass', _('Passphrase for a new backup'), secret), again = field('bw-pass2', _('The same again'), secret);
		const old = field('bw-pass-old', _('Passphrase of the backup'), Object.assign({}, secret, { 'autocomplete': 'off' }));
		const file = field('bw-file', _('Backup file'), { 'type': 'file', 'class': '' });

		return [
			E('p', {}, [ _('The keys hold the stake, the earnings and this router\'s name. They never leave the router but in a backup that your passphrase encrypts. Without a backup, a broken router loses them.') ]),
			E('form', { 'class': 'bw-row', 'submit': (ev) => ev.preventDefault() }, [ first.node, again.node, parts.button(_('Back up keys'), 'action', () => {
				if (first.input.value.length < PASSPHRASE_MIN)
					throw new Error('passphrase');

				if (first.input.value !== again.input.value)
					throw new Error(_('The two passphrases differ.'));

				return backend.backup(first.input.value).then((text) => {
					first.input.value = again.input.value = '';
					save('bwrouter-keys.backup', text);
				});
			}) ]),
			E('form', { 'class': 'bw-row', 'submit': (ev) => ev.preventDefault() }, [ file.node, old.node, parts.button(_('Restore keys…'), 'negative', () => {
				if (!file.input.files.length)
					throw new Error('file');

				return file.input.files[0].text().then((text) => this.askRestore(text, old.input));
			}) ])
		];
	},

	askRestore: function(text, input) {
		parts.confirm(_('Replace this router\'s keys?'), [
			_('The keys of the backup take the place of the present ones, which are put aside on the router. Its name, stake and earnings become those of the backup. Sharing stops for a moment.')
		], _('Restore'), () => backend.service('stop').then(() => backend.restore(text, input.value)).then(() => {
			input.value = '';

			return backend.service('start');
		}, (error) => backend.service('start').then(() => {
			throw error;
		})).then(() => {
			ui.addNotification(null, E('p', {}, [ _('The keys are restored, and the service was started again.') ]), 'info');
		}));
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
