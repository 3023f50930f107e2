// Stand-in for LuCI's form module: maps, sections with tabs, and the options of luci-app/, over uci. Element ids and
// names are LuCI's.
'use strict';
'require baseclass';
'require dom';
'require uci';
'require validation';

const Option = baseclass.extend({
	rmempty: true,

	__init__: function(map, section, name, title, description) {
		Object.assign(this, { map: map, section: section, option: name, title: title, description: description, values: [], deps: [], nodes: {}, data: {} });
	},

	depends: function(name, value) { this.deps.push([ name, value ]); },
	value: function(key, title) { this.values.push([ key, title ]); },
	id: function(section) { return 'cbid.%s.%s.%s'.format(this.map.config, section, this.option); },

	// As LuCI: what was loaded is given as a second argument and kept; without one it is returned.
	cfgvalue: function(section, value) {
		if (arguments.length === 2)
			this.data[section] = value;

		return this.data[section] == null ? null : this.data[section];
	},

	write: function(section, value) { uci.set(this.map.config, section, this.option, value); },
	remove: function(section) { uci.unset(this.map.config, section, this.option); },

	active: function(section) {
		return !this.deps.length || this.deps.some((dep) => this.section.find(dep[0]).formvalue(section) === dep[1]);
	},

	check: function(section, value) {
		if (value === '' || value == null)
			return this.rmempty || this.optional ? true : _('This field is required');

		const typed = this.datatype ? validation.check(this.datatype, value) : true;

		return typed !== true ? typed : this.validate ? this.validate(section, value) : true;
	},

	mark: function(section) {
		const wrong = this.active(section) ? this.problem(section) : null;
		const node = this.nodes[section];

		node.classList.toggle('cbi-value-error', wrong != null);
		node.querySelector('.cbi-value-problem').textContent = wrong || '';

		return wrong;
	},

	problem: function(section) {
		const found = this.check(section, this.formvalue(section));

		return found === true ? null : found;
	},

	render: function(section) {
		const id = this.id(section);
		const problem = E('div', { 'class': 'cbi-value-problem', 'role': 'alert' }, [ '' ]);
		const describe = this.description ? E('div', { 'class': 'cbi-value-description', 'id': 'desc.' + id }, this.description) : '';
		this.cfgvalue(section, uci.get(this.map.config, section, this.option));

		const widget = E('div', { 'id': id }, [ this.widget(section, this.cfgvalue(section)) ]);
		const node = E('div', { 'class': 'cbi-value', 'data-name': this.option, 'id': 'cbi-%s-%s-%s'.format(this.map.config, section, this.option) }, [
			E('label', { 'class': 'cbi-value-title', 'for': 'widget.' + id }, [ this.title ]),
			E('div', { 'class': 'cbi-value-field' }, [ widget, problem, describe ]) ]);

		this.nodes[section] = node;
		widget.addEventListener('change', (ev) => {
			this.mark(section);
			this.section.show(section);

			if (this.onchange)
				this.onchange(ev, section, this.formvalue(section));
		});

		return node;
	},

	input: function(section) {
		return document.getElementById('widget.' + this.id(section)) || this.nodes[section].querySelector('[id="widget.%s"]'.format(this.id(section)));
	},

	formvalue: function(section) { return this.input(section).value; },

	parse: function(section) {
		const was = this.cfgvalue(section);
		const now = this.active(section) ? this.formvalue(section) : '';
		const same = JSON.stringify(was == null ? '' : was) === JSON.stringify(now == null ? '' : now);

		if (same)
			return;

		if (now === '' || now == null || (Array.isArray(now) && !now.length) || (this.rmempty && now === this.default))
			this.remove(section);
		else
			this.write(section, now);
	}
});

const Value = Option.extend({
	widget: function(section, value) {
		return E('input', { 'id': 'widget.' + this.id(section), 'type': 'text', 'class': 'cbi-input-text',
			'aria-describedby': this.description ? 'desc.' + this.id(section) : null,
			'value': value == null ? '' : value, 'placeholder': this.placeholder });
	}
});

const Flag = Option.extend({
	widget: function(section, value) {
		const box = E('input', { 'id': 'widget.' + this.id(section), 'type': 'checkbox' });

		box.checked = (value == null ? this.default : value) === '1';

		return E('div', { 'class': 'cbi-checkbox' }, [ box ]);
	},

	formvalue: function(section) { return this.input(section).checked ? '1' : '0'; },

	parse: function(section) {
		const now = this.formvalue(section), was = this.cfgvalue(section);

		if (now !== (was == null ? this.default || '0' : was))
			this.write(section, now);
	}
});

const ListValue = Option.extend({
	widget: function(section, value) {
		const chosen = value == null ? this.default : value;

		return E('select', { 'id': 'widget.' + this.id(section), 'class': 'cbi-input-select' }, this.values.map((entry) =>
			E('option', { 'value': entry[0], 'selected': entry[0] === chosen ? '' : null }, [ entry[1] ])));
	}
});

const DynamicList = Option.extend({
	widget: function(section, value) {
		const list = E('div', { 'class': 'cbi-dynlist' });
		const input = E('input', { 'id': 'widget.' + this.id(section), 'type': 'text', 'class': 'cbi-input-text', 'placeholder': this.placeholder });
		const item = (text) => E('div', { 'class': 'item', 'data-value': text }, [ E('span', {}, [ text ]), ' ',
			E('button', { 'class': 'btn', 'type': 'button', 'aria-label': _('Remove') + ' ' + text, 'click': (ev) => ev.currentTarget.parentNode.remove() }, [ '×' ]) ]);
		const add = () => {
			if (input.value && this.check(section, input.value) === true) {
				list.insertBefore(item(input.value), input.parentNode);
				input.value = '';
			}
			this.mark(section);
		};

		L.toArray(value).forEach((text) => list.appendChild(item(text)));
		input.addEventListener('keydown', (ev) => {
			if (ev.key === 'Enter')
				add();
		});
		list.appendChild(E('div', { 'class': 'add-item' }, [ input, E('button', { 'class': 'btn cbi-button-add', 'type': 'button', 'aria-label': _('Add') + ': ' + this.title, 'click': add }, [ '+' ]) ]));

		return list;
	},

	formvalue: function(section) {
		return Array.from(this.nodes[section].querySelectorAll('.item')).map((node) => node.dataset.value);
	},

	problem: function(section) {
		const wrong = this.formvalue(section).concat(this.input(section).value ? [ this.input(section).value ] : [])
			.map((text) => this.check(section, text)).find((found) => found !== true);

		return wrong == null ? null : wrong;
	}
});

const Section = baseclass.extend({
	__init__: function(map, type, title, description) {
		Object.assign(this, { map: map, type: type, title: title, description: description, options: [], tabs: [] });
	},

	tab: function(name, title) { this.tabs.push({ name: name, title: title }); },

	taboption: function(tab, Kind, ...args) {
		const made = new Kind(this.map, this, ...args);

		made.tab = tab;
		this.options.push(made);

		return made;
	},

	option: function(Kind, ...args) { return this.taboption(null, Kind, ...args); },
	find: function(name) { return this.options.find((option) => option.option === name); },

	show: function(section) {
		this.options.forEach((option) => { option.nodes[section].style.display = option.active(section) ? '' : 'none'; });
	},

	renderSection: function(section) {
		const body = E('div', { 'class': 'cbi-section-node', 'id': 'cbi-%s-%s'.format(this.map.config, section) });

		if (this.tabs.length) {
			const panes = {}, heads = {};
			const choose = (name) => { this.chosen = name; Object.keys(panes).forEach((key) => {
				panes[key].style.display = key === name ? '' : 'none';
				heads[key].className = key === name ? 'cbi-tab' : 'cbi-tab-disabled';
				heads[key].firstChild.setAttribute('aria-selected', key === name);
			}); };

			this.tabs.forEach((tab) => {
				panes[tab.name] = E('div', { 'data-tab': tab.name, 'role': 'tabpanel' }, this.options.filter((option) => option.tab === tab.name).map((option) => option.render(section)));
				heads[tab.name] = E('li', { 'data-tab': tab.name, 'role': 'presentation' }, [ E('a', { 'href': '#', 'role': 'tab', 'click': (ev) => { ev.preventDefault(); choose(tab.name); } }, [ tab.title ]) ]);
			});
			dom.append(body, [ E('ul', { 'class': 'cbi-tabmenu', 'role': 'tablist' }, this.tabs.map((tab) => heads[tab.name])) ].concat(this.tabs.map((tab) => panes[tab.name])));
			choose(this.chosen || this.tabs[0].name);
		}
		else {
			dom.append(body, this.options.map((option) => option.render(section)));
		}

		this.show(section);

		return body;
	},

	each: function(work) { this.names().forEach((section) => this.options.forEach((option) => work(option, section))); }
});

const NamedSection = Section.extend({
	__init__: function(map, name, type, title, description) {
		this.name = name;
		Section.prototype.__init__.call(this, map, type, title, description);
	},

	names: function() { return [ this.name ]; },

	render: function() {
		return E('div', { 'class': 'cbi-section' }, [ this.title ? E('h3', {}, [ this.title ]) : '', this.renderSection(this.name) ]);
	}
});

const TypedSection = Section.extend({
	names: function() { return uci.sections(this.map.config, this.type).map((section) => section['.name']); },

	render: function() {
		const again = (work) => () => {
			this.map.parse();
			work();
			this.map.redraw();
		};

		return E('div', { 'class': 'cbi-section', 'id': 'cbi-%s-%s'.format(this.map.config, this.type) }, [
			E('h3', {}, [ this.title ]), E('div', { 'class': 'cbi-section-descr' }, this.description)
		].concat(this.names().map((section) => E('div', {}, [ this.renderSection(section),
			E('div', { 'class': 'cbi-section-remove right' }, [ E('button', { 'class': 'btn cbi-button cbi-button-remove', 'type': 'button',
				'click': again(() => uci.remove(this.map.config, section)) }, [ _('Delete') ]) ]) ])), [
			E('div', { 'class': 'cbi-section-create' }, [ E('button', { 'class': 'btn cbi-button cbi-button-add', 'type': 'button',
				'click': again(() => uci.add(this.map.config, this.type)) }, [ _('Add') ]) ]) ]));
	}
});

// A section inside a tab of another.
const SectionValue = Option.extend({
	__init__: function(map, section, name, Kind, ...args) {
		Option.prototype.__init__.call(this, map, section, name);
		this.subsection = new Kind(map, ...args);
		map.parts.push({ each: (work) => this.subsection.each(work), render: () => '' });
	},

	render: function(section) {
		this.nodes[section] = E('div', {}, [ this.subsection.render() ]);

		return this.nodes[section];
	},

	mark: () => null,
	parse: () => null
});

const Map = baseclass.extend({
	__init__: function(config, title, description) {
		Object.assign(this, { config: config, title: title, description: description, parts: [] });
	},

	section: function(Kind, ...args) {
		const made = new Kind(this, ...args);

		this.parts.push(made);

		return made;
	},

	render: function() {
		return uci.load(this.config).then(() => {
			this.node = E('div', { 'class': 'cbi-map', 'id': 'cbi-' + this.config });
			this.node.instance = this;
			this.redraw();

			return this.node;
		});
	},

	redraw: function() {
		dom.content(this.node, [ E('h2', { 'name': 'content' }, [ this.title ]), E('div', { 'class': 'cbi-map-descr' }, [ this.description ]) ]
			.concat(this.parts.map((part) => part.render())));
	},

	parse: function() { this.parts.forEach((part) => part.each((option, section) => option.parse(section))); },

	save: function() {
		const wrong = [];

		this.parts.forEach((part) => part.each((option, section) => {
			const found = option.mark(section);

			if (found != null)
				wrong.push(option.title + ': ' + found);
		}));

		if (wrong.length) {
			return L.require('ui').then((ui) => {
				ui.addNotification(null, E('p', {}, [ _('Cannot save due to invalid values: ') + wrong.join('; ') ]), 'danger');
				throw new Error('invalid');
			});
		}

		this.parse();

		return uci.save();
	},

	reset: function() {
		uci.unload(this.config);

		return uci.load(this.config).then(() => this.redraw());
	}
});

return baseclass.extend({
	Map: Map, NamedSection: NamedSection, TypedSection: TypedSection, SectionValue: SectionValue,
	Value: Value, Flag: Flag, ListValue: ListValue, DynamicList: DynamicList
});
