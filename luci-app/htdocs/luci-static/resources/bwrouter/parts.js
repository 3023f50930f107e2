'use strict';
'require baseclass';
'require ui';
'require uci';
'require bwrouter.backend as backend';
'require bwrouter.words as words';

/* Pieces that several pages show. Text that comes from the router is always a child in an array: a string child of E()
   is markup. */

const STALE_S = 10;
const APPLY_MS = 2000; // uci.apply() confirms after a second, or the router takes it back

return baseclass.extend({
	page: function(children) {
		return E('div', { 'class': 'bw' }, [
			E('link', { 'rel': 'stylesheet', 'href': L.resource('bwrouter/style.css') })
		].concat(children));
	},

	facts: function(pairs) {
		const cells = [];

		pairs.forEach((pair) => cells.push(E('dt', {}, [ pair[0] ]), E('dd', {}, [].concat(pair[1]))));

		return E('dl', { 'class': 'bw-facts' }, cells);
	},

	// Rows are lists of texts; a phone shows each cell under its column's name.
	table: function(titles, rows, empty) {
		return E('table', { 'class': 'table' }, [
			E('tr', { 'class': 'tr table-titles' }, titles.map((title) => E('th', { 'class': 'th', 'scope': 'col' }, [ title ])))
		].concat(rows.length ? rows.map((row) => E('tr', { 'class': 'tr' }, row.map((text, i) =>
			E('td', { 'class': 'td', 'data-title': titles[i] }, [ text ])))) : [
			E('tr', { 'class': 'tr placeholder' }, [ E('td', { 'class': 'td', 'colspan': titles.length }, [ E('em', {}, [ empty ]) ]) ])
		]));
	},

	verdicts: function(list, most) {
		const rows = L.toArray(list).filter(L.isObject).slice(-most).reverse();

		return this.table([ _('Time'), _('Result'), _('Measured'), _('Claimed'), _('Delay'), _('Loss') ], rows.map((v) => [
			words.time(v.time),
			words.verdict(v.reason),
			words.rate(v.kbps),
			words.rate(v.claimed_kbps),
			v.latency_ms == null ? '–' : _('%s ms').format(words.number(v.latency_ms, 0)),
			v.loss_bps == null ? '–' : '%s %%'.format(words.number(v.loss_bps / 100, 2))
		]), _('Not audited yet.'));
	},

	// Whether the agent's status is there and fresh.
	alive: function(answer) {
		return L.isObject(answer.status) && Math.abs(answer.now - answer.status.time) <= STALE_S;
	},

	button: function(title, style, handler) {
		return E('button', {
			'class': 'btn cbi-button cbi-button-' + style,
			'type': 'button',
			'disabled': L.hasViewPermission() === false ? '' : null,
			'click': ui.createHandlerFn(this, () => Promise.resolve().then(handler).catch((error) => this.failed(error)))
		}, [ title ]);
	},

	failed: function(error) {
		ui.addNotification(null, E('p', {}, [ words.failure(error) ]), 'danger');
	},

	// Ask before something is done. Resolves when it is done; a refusal changes nothing.
	confirm: function(title, lines, action, handler) {
		const confirmed = () => {
			ui.hideModal();

			return handler();
		};

		ui.showModal(title, lines.map((line) => line instanceof Node ? line : E('p', {}, [ line ])).concat([
			E('div', { 'class': 'right' }, [
				E('button', { 'class': 'btn', 'type': 'button', 'click': ui.hideModal }, [ _('Cancel') ]), ' ',
				this.button(action, 'positive important', confirmed)
			])
		]));
	},

	// Set options of the section `main` and apply them at once.
	setMain: function(values) {
		Object.keys(values).forEach((name) => uci.set('bwrouter', 'main', name, values[name]));

		return uci.save().then(() => uci.apply()).then(() => new Promise((resolve) => setTimeout(resolve, APPLY_MS)));
	},

	enabled: function() {
		return uci.get('bwrouter', 'main', 'enabled') === '1';
	},

	// The service's first start: what it means, and the owner's word for it.
	consent: function() {
		const box = E('input', { 'type': 'checkbox', 'id': 'bw-consent' });
		const start = this.button(_('Start sharing'), 'positive important', () =>
			this.setMain({ 'enabled': '1' })
				.then(() => backend.service('enable'))
				.then(() => backend.service('start'))
				.then(() => location.reload()));

		start.disabled = true;
		box.addEventListener('change', () => { start.disabled = !box.checked; });

		return E('section', { 'class': 'bw-card', 'aria-labelledby': 'bw-consent-title' }, [
			E('h3', { 'id': 'bw-consent-title' }, [ _('Before you share') ]),
			E('p', {}, [ _('This router can relay other people\'s encrypted traffic with the upstream that your household leaves idle, and is paid for it.') ]),
			E('ul', { 'class': 'bw-list' }, [
				_('What leaves your home: encrypted packets between relays and buyers. Nobody can read them, this router neither. Other relays and buyers see your IP address and that it relays.'),
				_('Your address, port, region and rate are listed in a public directory. The stake and earnings of this router\'s wallet are public on the chain.'),
				_('Relay only: no traffic of others reaches the internet under your address. An exit is off and asks for a second consent in Settings.'),
				_('Your household comes first. Sharing uses upstream data, which counts where your contract has a limit: set your caps first. Some contracts forbid sharing: read yours.'),
				_('A stake can be lost if the router claims more than it delivers.')
			].map((line) => E('li', {}, [ line ]))),
			E('label', { 'class': 'bw-check', 'for': 'bw-consent' }, [ box,
				E('span', {}, [ _('I have read this, and I may share this line.') ]) ]),
			E('div', { 'class': 'bw-buttons' }, [ start,
				E('a', { 'class': 'btn cbi-button', 'href': L.url('admin/services/bwrouter/settings') }, [ _('Set caps first') ]) ])
		]);
	}
});
