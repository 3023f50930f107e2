'use strict';
'require baseclass';
'require bwrouter.words as words';

const WIDTH = 600, HEIGHT = 160;
const NS = 'http://www.w3.org/2000/svg';

function node(tag, attributes) {
	const made = document.createElementNS(NS, tag);

	Object.keys(attributes).forEach((name) => made.setAttribute(name, attributes[name]));

	return made;
}

// The next of 1, 2, 5, 10, … at or above a value.
function ceiling(value) {
	let step = 1;

	while (step * 10 < value)
		step *= 10;

	return [ 1, 2, 5, 10 ].map((n) => n * step).find((n) => n >= value) || value;
}

// Points as an SVG path; a null breaks the line.
function path(values, top) {
	const last = Math.max(1, values.length - 1);
	let out = '', pen = 'M';

	values.forEach((value, i) => {
		if (value == null || isNaN(value)) {
			pen = 'M';
			return;
		}

		out += pen + (i * WIDTH / last).toFixed(1) + ' ' + (HEIGHT - Math.min(value, top) * HEIGHT / top).toFixed(1);
		pen = 'L';
	});

	return out;
}

/* Upstream of household and relay over time, with the line that sharing never crosses. The series differ by dash and by
   the text beside them, not by colour alone. */
const Chart = baseclass.extend({
	__init__: function(size) {
		this.size = size;
		this.live = [];
		this.lines = {
			cap: node('path', { 'class': 'bw-cap' }),
			house: node('path', { 'class': 'bw-house' }),
			relay: node('path', { 'class': 'bw-relay' })
		};
		this.svg = node('svg', { 'viewBox': '0 0 %d %d'.format(WIDTH, HEIGHT), 'preserveAspectRatio': 'none',
			'role': 'img', 'class': 'bw-svg' });
		[ 0.25, 0.5, 0.75 ].forEach((part) => this.svg.appendChild(node('path', {
			'class': 'bw-grid', 'd': 'M0 %f H%d'.format(part * HEIGHT, WIDTH) })));
		Object.keys(this.lines).forEach((name) => this.svg.appendChild(this.lines[name]));
		this.top = E('span', { 'class': 'bw-axis' }, [ '' ]);
		this.span = E('span', {}, [ '' ]);
		this.legend = {};
		[ 'house', 'relay', 'cap' ].forEach((name) => { this.legend[name] = E('span', {}, [ '' ]); });
	},

	push: function(house, relay) {
		this.live.push([ house, relay ]);

		if (this.live.length > this.size)
			this.live.shift();

		return this;
	},

	// The points to draw: the live ones, or the slots of history.json.
	choose: function(history, seconds) {
		const slots = L.isObject(history) ? L.toArray(history.slots) : null;
		const rate = (bytes) => bytes * 8 / 1000 / history.slot_s;
		const points = slots ? slots.map((slot) => [ rate(slot[1]), rate(slot[2]) ]) : this.live;

		this.house = points.map((point) => point[0]);
		this.relay = points.map((point) => point[1]);
		this.seconds = slots ? slots.length * history.slot_s : this.live.length * seconds;

		return this;
	},

	draw: function(cap) {
		const known = this.house.concat(this.relay, [ cap ]).filter((value) => value != null && !isNaN(value));
		const top = ceiling(Math.max.apply(null, known.concat([ 100 ])));
		const now = (values) => words.rate(values[values.length - 1]);

		this.lines.house.setAttribute('d', path(this.house, top));
		this.lines.relay.setAttribute('d', path(this.relay, top));
		this.lines.cap.setAttribute('d', cap == null ? '' : path([ cap, cap ], top));
		this.top.textContent = words.rate(top);
		this.span.textContent = _('the last %s').format(words.span(this.seconds));
		this.legend.house.textContent = _('Household %s').format(now(this.house));
		this.legend.relay.textContent = _('Shared %s').format(now(this.relay));
		this.legend.cap.textContent = _('Most that may be shared %s').format(words.rate(cap));
		this.svg.setAttribute('aria-label', _('Upstream over time') + ': ' +
			[ 'house', 'relay', 'cap' ].map((name) => this.legend[name].textContent).join(', '));
	},

	render: function() {
		const key = (name) => E('span', { 'class': 'bw-key' }, [
			E('i', { 'class': 'bw-swatch bw-swatch-' + name, 'aria-hidden': 'true' }), this.legend[name] ]);

		return E('figure', { 'class': 'bw-graph' }, [
			this.top, this.svg,
			E('figcaption', {}, [ key('house'), key('relay'), key('cap'), this.span ])
		]);
	}
});

return baseclass.extend({
	// A chart of the last `size` points.
	create: function(size) {
		return new Chart(size);
	}
});
