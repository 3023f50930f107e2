// Stand-in for LuCI's uci module: sections held here, changes sent by the same ubus calls.
'use strict';
'require baseclass';
'require rpc';

const declare = (method, params, expect) => rpc.declare({ object: 'uci', method: method, params: params, expect: expect });
const callGet = declare('get', [ 'config' ], { 'values': {} });
const callSet = declare('set', [ 'config', 'section', 'values' ]);
const callDelete = declare('delete', [ 'config', 'section', 'options' ]);
const callAdd = declare('add', [ 'config', 'type', 'name', 'values' ], { 'section': '' });
const callApply = declare('apply', [ 'timeout', 'rollback' ]);
const callConfirm = declare('confirm', []);

const expectDone = (code) => {
	if (code !== 0)
		throw new Error('uci: status ' + code);
};

return baseclass.extend({
	__init__: function() {
		this.loaded = {};
		this.changes = {}; // section: {option: value or null}
		this.added = {};   // section: type
		this.removed = {};
		this.serial = 0;
	},

	load: function(config) {
		if (this.loaded[config])
			return Promise.resolve([ config ]);

		return callGet(config).then((values) => {
			this.config = config;
			this.loaded[config] = values;

			return [ config ];
		});
	},

	unload: function(config) {
		delete this.loaded[config];
		this.changes = {};
		this.added = {};
		this.removed = {};
	},

	sections: function(config, type) {
		const kept = Object.keys(this.loaded[config]).map((name) => this.loaded[config][name])
			.filter((section) => section['.type'] === type && !this.removed[section['.name']])
			.sort((a, b) => a['.index'] - b['.index']);
		const fresh = Object.keys(this.added).filter((name) => this.added[name] === type).map((name) => ({ '.name': name, '.type': type }));

		return kept.concat(fresh);
	},

	get: function(config, section, option) {
		const changed = this.changes[section];

		if (changed && option in changed)
			return changed[option] == null ? null : changed[option];

		const found = this.loaded[config][section];

		return found && found[option] != null ? found[option] : null;
	},

	set: function(config, section, option, value) {
		this.changes[section] = this.changes[section] || {};
		this.changes[section][option] = value === '' || (Array.isArray(value) && !value.length) ? null : value;
	},

	unset: function(config, section, option) {
		this.set(config, section, option, null);
	},

	add: function(config, type) {
		const name = 'new%d'.format(++this.serial);

		this.added[name] = type;

		return name;
	},

	remove: function(config, section) {
		if (this.added[section])
			delete this.added[section];
		else
			this.removed[section] = true;

		delete this.changes[section];
	},

	save: function() {
		const config = this.config;
		const of = (section, test) => Object.keys(this.changes[section] || {}).filter((option) => test(this.changes[section][option]));
		const values = (section) => Object.fromEntries(of(section, (value) => value != null).map((option) => [ option, this.changes[section][option] ]));
		let work = Promise.resolve();

		Object.keys(this.removed).forEach((section) => { work = work.then(() => callDelete(config, section)).then(expectDone); });
		Object.keys(this.added).forEach((section) => { work = work.then(() => callAdd(config, this.added[section], null, values(section))); });
		Object.keys(this.changes).filter((section) => !this.added[section]).forEach((section) => {
			const gone = of(section, (value) => value == null).filter((option) => this.loaded[config][section] && option in this.loaded[config][section]);

			if (Object.keys(values(section)).length)
				work = work.then(() => callSet(config, section, values(section))).then(expectDone);

			if (gone.length)
				work = work.then(() => callDelete(config, section, gone)).then(expectDone);
		});

		return work.then(() => {
			this.unload(config);

			return this.load(config);
		});
	},

	apply: function(timeout) {
		return callApply(timeout || 10, true).then(expectDone).then(() => {
			setTimeout(() => callConfirm().then(expectDone), 1000);
		});
	}
});
