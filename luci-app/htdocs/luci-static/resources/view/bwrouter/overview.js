'use strict';
'require view';
'require dom';
'require poll';
'require uci';
'require bwrouter.backend as backend';
'require bwrouter.graph as graph';
'require bwrouter.parts as parts';
'require bwrouter.words as words';

const POLL_S = 2;
const POINTS = 150; // five minutes
const HOUR_S = 3600;

// Seconds until the router's next midnight, by this browser's clock of the same home.
function tomorrow(now) {
	const date = new Date(now * 1000);

	return Math.floor(new Date(date.getFullYear(), date.getMonth(), date.getDate() + 1).getTime() / 1000);
}

return view.extend({
	load: function() {
		return Promise.all([ backend.status(), uci.load('bwrouter') ]);
	},

	render: function(loaded) {
		this.chart = graph.create(POINTS);
		this.boxes = {};
		[ 'state', 'figures', 'proof', 'facts', 'audits' ].forEach((name) => { this.boxes[name] = E('div'); });
		this.buttons = {
			hour: parts.button(_('Pause for 1 hour'), 'neutral', () => this.pause((now) => now + HOUR_S)),
			tomorrow: parts.button(_('Pause until tomorrow'), 'neutral', () => this.pause(tomorrow)),
			go: parts.button(_('Go on sharing'), 'positive', () => this.pause(() => 0)),
			start: parts.button(_('Start the service'), 'positive', () => backend.service('start').then(() => this.refresh()))
		};
		this.boxes.state.setAttribute('role', 'status');

		const body = parts.enabled() ? [
			E('section', { 'class': 'bw-card', 'aria-label': _('State') }, [
				this.boxes.state,
				E('div', { 'class': 'bw-buttons' }, Object.keys(this.buttons).map((name) => this.buttons[name]))
			])
		] : [ parts.consent() ];

		poll.add(() => this.refresh(), POLL_S);
		this.show(loaded[0], null);

		return parts.page([ E('h2', {}, [ _('Bandwidth Sharing') ]) ].concat(body, [
			this.boxes.figures,
			E('section', { 'class': 'bw-card', 'aria-label': _('Upstream') }, [ E('h3', {}, [ _('Upstream') ]), this.chart.render(), this.spans(), this.boxes.proof ]),
			E('section', { 'class': 'bw-card', 'aria-label': _('Standing') }, [ E('h3', {}, [ _('Standing') ]), this.boxes.facts ]),
			E('section', { 'class': 'bw-card', 'aria-label': _('Last audits') }, [ E('h3', {}, [ _('Last audits') ]), this.boxes.audits ])
		]));
	},

	refresh: function() {
		return Promise.all([ backend.status(), this.day ? backend.history() : {} ]).then((got) => this.show(got[0], got[1].history));
	},

	// Which time the graph shows.
	spans: function() {
		const choice = (title, day) => E('button', { 'class': 'btn', 'type': 'button', 'aria-pressed': String(!!this.day === day), 'click': (ev) => {
			this.day = day;
			ev.currentTarget.parentNode.childNodes.forEach((node) => node.setAttribute('aria-pressed', String(node === ev.currentTarget)));

			return this.refresh();
		} }, [ title ]);

		return E('div', { 'class': 'bw-buttons' }, [ choice(_('Live'), false), choice(_('Last day'), true) ]);
	},

	pause: function(until) {
		return backend.status()
			.then((answer) => backend.pause(until(answer.now)))
			.then((answer) => {
				if (answer.until == null)
					throw new Error(answer.error || 'denied');
			})
			.then(() => this.refresh());
	},

	show: function(answer, history) {
		const alive = parts.alive(answer);
		const status = alive ? answer.status : null;

		dom.content(this.boxes.state, this.state(answer, status));
		this.chart.push(status ? status.rate.household_kbps : null, status ? status.rate.own_kbps : null)
			.choose(this.day ? history : null, POLL_S).draw(status ? status.rate.limit_kbps : null);

		const paused = alive && status.rate.paused_until > 0;
		const visible = { hour: alive && !paused, tomorrow: alive && !paused, go: paused, start: !alive };

		Object.keys(visible).forEach((name) => { this.buttons[name].style.display = visible[name] ? '' : 'none'; });
		dom.content(this.boxes.figures, status ? this.figures(status) : []);
		dom.content(this.boxes.proof, status ? this.proof(status) : []);
		dom.content(this.boxes.facts, status ? this.facts(status) : [ E('p', {}, [ _('Nothing is known while the service is not running.') ]) ]);
		dom.content(this.boxes.audits, [ parts.verdicts(status ? status.verdicts : [], 5) ]);
	},

	// What the router does now, in a sentence, and why.
	state: function(answer, status) {
		if (!status)
			return [
				E('div', { 'class': 'bw-state' }, [ E('span', { 'class': 'bw-chip bw-bad' }, [ '■ ' + _('Not running') ]),
					_('The service is not running: nothing is shared.') ]),
				E('p', { 'class': 'bw-why' }, [ answer.fault ? words.fault(String(answer.fault).trim()) : '' ])
			];

		const rate = status.rate, relay = status.relay, reason = rate.reason;
		const paused = rate.paused_until > 0, idle = reason === 'quota' || reason === 'schedule';
		const chip = paused ? [ '❚❚ ' + _('Paused'), '' ] : idle ? [ '◷ ' + _('Waiting'), '' ] : [ '● ' + _('Sharing'), 'bw-good' ];
		const sentence = paused || idle ? _('Nothing is shared at the moment.') :
			_('Up to %s may be shared now, of at most %s.').format(words.rate(rate.allowed_kbps), words.rate(rate.limit_kbps));
		const lines = paused ? [ _('You paused sharing. It goes on at %s.').format(words.time(rate.paused_until)) ] : [ words.reason(reason) ];

		if (rate.uplink_sure !== 'owner')
			lines.push(words.sure(rate.uplink_sure, rate.uplink_kbps));

		if (!relay || relay.age_ms > 5000)
			lines.push(answer.fault ? words.fault(String(answer.fault).trim()) : _('The relay process has not been heard; it is started again by itself.'));
		else
			lines.push(_('%d circuits are open.').format(relay.circuits));

		return [
			E('div', { 'class': 'bw-state' }, [ E('span', { 'class': 'bw-chip ' + chip[1] }, [ chip[0] ]), E('span', {}, [ sentence ]) ]),
			E('p', { 'class': 'bw-why' }, [ lines.join(' ') ])
		];
	},

	figures: function(status) {
		const earned = status.earned || {}, quota = status.rate.quota || {}, earnings = status.earnings || {};
		const figure = (title, value, more) => E('div', { 'class': 'bw-figure' }, [
			E('dt', {}, [ title ]), E('dd', {}, [ value ].concat(more ? [ E('small', {}, [ more ]) ] : [])) ]);
		const left = (used, option) => {
			const most = +uci.get('bwrouter', 'main', option) || 0;

			return most ? _('%s left').format(words.bytes(Math.max(0, most * 1e6 - used))) : _('no limit');
		};

		return E('dl', { 'class': 'bw-figures' }, [
			earned.day_wei != null ? figure(_('Earned today'), words.tokens(earned.day_wei)) : '',
			earned.month_wei != null ? figure(_('Earned this month'), words.tokens(earned.month_wei)) : '',
			figure(_('Earned in all'), words.tokens(earnings.cumulative_wei), earnings.claimed_wei ? _('%s paid out').format(words.coins(earnings.claimed_wei, 4)) : _('nothing is known yet')),
			figure(_('Shared today'), words.bytes(quota.day_bytes), left(quota.day_bytes, 'quota_day_mb')),
			figure(_('Shared this month'), words.bytes(quota.month_bytes), left(quota.month_bytes, 'quota_month_mb'))
		].filter((made) => made !== ''));
	},

	// What the owner wants to know above all, from the agent's history of a day.
	proof: function(status) {
		const proof = status.rate.verdict || {};

		if (proof.lost_pct == null || proof.added_ms == null)
			return [ E('p', { 'class': 'bw-why' }, [ _('How little your household feels is known after some hours of sharing.') ]) ];

		return [ E('p', { 'class': 'bw-why' }, [
			_('In the last day your household lost %s %% of its upstream, and its packets waited %s ms longer.')
				.format(words.number(proof.lost_pct, 2), words.number(proof.added_ms, 1)) ]) ];
	},

	facts: function(status) {
		const stake = status.stake, chain = stake.chain || {};
		const mark = status.proved ? E('span', { 'class': 'bw-good' }, [ ' ✓ ' + _('verified by this router at block %d').format(status.proved.block) ])
			: status.proof_error ? E('span', { 'class': 'bw-bad' }, [ ' ✗ ' + words.fault(status.proof_error) ]) : '';
		const gateways = L.toArray(status.gateways).filter(L.isObject).map((g) => E('div', {}, [
			g.url + ': ',
			g.error ? E('span', { 'class': 'bw-bad', 'title': g.error }, [ words.fault(g.error) ]) : _('works') ]));

		const receipts = words.receipts(status);

		return parts.facts([
			[ _('Reachable'), words.reach(status) ],
			[ _('Stake'), [ words.staked(chain), mark ] ],
			stake.error ? [ _('Stake needs you'), E('span', { 'class': 'bw-bad', 'title': stake.error }, [ words.fault(stake.error) ]) ] : null,
			[ _('Gateways'), gateways.length ? gateways : _('none: add one in Settings → Payout and gateways') ],
			receipts.length ? [ _('Receipts'), receipts.map((said) => E('div', { 'class': 'bw-bad' }, [ said ])) ] : null,
			[ _('Exit'), status.exit.enabled ? (status.exit.error ? words.fault(status.exit.error) : _('open')) : _('off: relay only') ],
			[ _('Running since'), words.time(status.started) ],
			[ _('Version'), '%s (%s)'.format(status.version, status.runtime) ]
		].filter((pair) => pair));
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
