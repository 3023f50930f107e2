'use strict';
'require view';
'require dom';
'require poll';
'require fs';
'require bwrouter.backend as backend';
'require bwrouter.parts as parts';
'require bwrouter.words as words';

const POLL_S = 5;
const AUDITS = 100;
const LINES = 200;

return view.extend({
	load: function() {
		return Promise.all([ backend.status(), this.lines() ]);
	},

	lines: function() {
		return L.resolveDefault(fs.exec('/sbin/logread', [ '-e', 'bwrouter' ]), {}).then((found) =>
			String(found.stdout || '').trim().split('\n').slice(-LINES).join('\n'));
	},

	render: function(loaded) {
		this.audits = E('div', { 'class': 'bw-scroll', 'tabindex': '0', 'role': 'region', 'aria-label': _('Audits') });
		this.money = E('div');
		this.log = E('pre', { 'class': 'bw-log', 'tabindex': '0', 'aria-label': _('Log') }, [ '' ]);
		poll.add(() => Promise.all([ backend.status(), this.lines() ]).then((got) => this.show(got[0], got[1])), POLL_S);
		this.show(loaded[0], loaded[1]);

		const card = (title, children) => E('section', { 'class': 'bw-card', 'aria-label': title }, [ E('h3', {}, [ title ]) ].concat(children));

		return parts.page([
			E('h2', {}, [ _('Activity') ]),
			card(_('Audits'), [ this.audits ]),
			card(_('Tickets and claims'), [ this.money ]),
			card(_('Log'), [ this.log, E('div', { 'class': 'bw-buttons' }, [
				parts.button(_('Check the installation'), 'action', () => this.check()) ]), this.found = E('div', { 'role': 'status' }) ])
		]);
	},

	show: function(answer, text) {
		const status = parts.alive(answer) ? answer.status : {};
		const tickets = status.tickets || {}, earnings = status.earnings || {}, posted = earnings.posted;
		const refused = L.isObject(tickets.refused) ? tickets.refused : {}; // by the gateway's code
		const count = (value) => value == null ? _('unknown') : words.number(value, 0);

		dom.content(this.audits, [ parts.verdicts(status.verdicts, AUDITS) ]);
		dom.content(this.money, [ parts.facts([
			[ _('Tickets held'), count(tickets.held) ],
			[ _('Units not redeemed yet'), count(tickets.unredeemed_units) ],
			[ _('Units redeemed since the start'), count(tickets.redeemed_units) ],
			[ _('Tickets refused'), Object.keys(refused).sort().map((code) => '%s %s'.format(code, count(refused[code]))).join(', ') || '0' ],
			[ _('Posted on the chain'), L.isObject(posted) ? _('%s tokens, epoch %d').format(words.coins(posted.cumulative_wei, 6), posted.epoch) : _('nothing yet') ],
			[ _('Claimed'), words.tokens(earnings.claimed_wei) ]
		]) ]);

		if (this.log.textContent !== text) {
			const end = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 40;

			this.log.textContent = text || _('The log has no lines of bandwidth sharing.');

			if (end)
				this.log.scrollTop = this.log.scrollHeight;
		}
	},

	check: function() {
		return backend.order('check').catch((error) => ({ check: error.message })).then((found) => {
			dom.content(this.found, [ parts.facts(Object.keys(found).sort().map((name) => [ name,
				found[name] === 'ok' ? '✓ ' + _('good') : E('span', { 'class': 'bw-bad' }, [ '✗ ' + words.fault(String(found[name])) ]) ])) ]);
		});
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
