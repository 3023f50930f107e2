// A stand-in for LuCI's JS runtime: only the faces that the views of luci-app/ use, with the same names, ubus calls and
// element ids. tests/browser/site.py serves it; LUCI=path serves a checkout of the real runtime in its place.
'use strict';

(function(window) {
	const modules = {};
	const env = {};

	// -- text -------------------------------------------------------------------------------------------------------

	window.TR = window.TR || {};
	window._ = (text) => window.TR[text] || text;

	String.prototype.format = function(...values) {
		let i = 0;

		return this.replace(/%(%|(?:\.(\d+))?([sdf]))/g, (all, first, digits, kind) => {
			if (first === '%')
				return '%';

			const value = values[i++];

			return kind === 'd' ? String(Math.trunc(Number(value))) :
				kind === 'f' ? Number(value).toFixed(digits == null ? 6 : Number(digits)) : String(value);
		});
	};

	// -- classes ----------------------------------------------------------------------------------------------------

	const Class = function() {};

	Class.extend = function(members) {
		const Parent = this;
		const Made = function(...args) {
			if (typeof this.__init__ === 'function')
				this.__init__(...args);
		};

		Made.prototype = Object.create(Parent.prototype);
		Object.assign(Made.prototype, members);
		Made.prototype.constructor = Made;
		Made.extend = Parent.extend;

		return Made;
	};

	// -- elements ---------------------------------------------------------------------------------------------------

	const dom = {
		elem: (value) => value instanceof Node,

		// As LuCI: an array's strings become text nodes, a bare string becomes markup.
		append: function(node, children) {
			if (Array.isArray(children))
				children.forEach((child) => {
					if (dom.elem(child))
						node.appendChild(child);
					else if (child !== null && child !== undefined)
						node.appendChild(document.createTextNode('' + child));
				});
			else if (dom.elem(children))
				node.appendChild(children);
			else if (children !== null && children !== undefined)
				node.innerHTML = '' + children;

			return node.lastChild;
		},

		content: function(node, children) {
			while (node.firstChild)
				node.removeChild(node.firstChild);

			return dom.append(node, children);
		},

		attr: function(node, name, value) {
			if (typeof value === 'function')
				node.addEventListener(name, value);
			else if (value !== null && value !== undefined)
				node.setAttribute(name, value);
		}
	};

	window.E = function(tag, attributes, children) {
		if (Array.isArray(tag)) {
			const fragment = document.createDocumentFragment();

			dom.append(fragment, tag);

			return fragment;
		}

		if (Array.isArray(attributes) || dom.elem(attributes) || typeof attributes === 'string') {
			children = attributes;
			attributes = {};
		}

		const node = document.createElement(tag);

		Object.keys(attributes || {}).forEach((name) => dom.attr(node, name, attributes[name]));
		dom.append(node, children);

		return node;
	};

	// -- ubus -------------------------------------------------------------------------------------------------------

	let serial = 0;

	const rpc = {
		call: function(object, method, args) {
			const id = ++serial;
			const body = { jsonrpc: '2.0', id: id, method: 'call', params: [ env.sessionid, object, method, args ] };

			return fetch(env.ubuspath, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) })
				.then((answer) => answer.json());
		},

		declare: function(spec) {
			return function(...values) {
				const args = {};

				(spec.params || []).forEach((name, i) => {
					if (values[i] !== undefined)
						args[name] = values[i];
				});

				return rpc.call(spec.object, spec.method, args).then((answer) => {
					const name = spec.expect ? Object.keys(spec.expect)[0] : null;
					const fallback = name == null ? null : spec.expect[name];
					let value = answer.result && answer.result.length > 1 ? answer.result[1] : answer.result && answer.result[0];

					if (name == null)
						return value;

					value = name === '' ? value : value && value[name];

					return Array.isArray(value) === Array.isArray(fallback) && typeof value === typeof fallback ? value : fallback;
				});
			};
		}
	};

	const fs = {
		exec: (command, params) => rpc.declare({ object: 'file', method: 'exec', params: [ 'command', 'params' ], expect: { '': {} } })(command, params)
	};

	// -- polling ----------------------------------------------------------------------------------------------------

	const poll = {
		add: function(work, seconds) {
			let busy = false;

			setInterval(() => {
				if (busy)
					return;

				busy = true;
				Promise.resolve().then(work).catch((error) => console.error('poll: ' + error)).then(() => { busy = false; });
			}, 1000 * (seconds || env.pollinterval));
		}
	};

	// -- views ------------------------------------------------------------------------------------------------------

	const View = Class.extend({
		load: function() {},
		render: function() {},

		__init__: function() {
			const place = document.getElementById('view');

			Promise.resolve(this.load()).then((loaded) => this.render(loaded)).then((node) => {
				dom.content(place, node);
				dom.append(place, this.addFooter());
			}).catch((error) => {
				dom.content(place, [ E('p', { 'class': 'alert-message danger' }, [ String(error.stack || error) ]) ]);
			});
		},

		maps: function() {
			return Array.from(document.querySelectorAll('.cbi-map')).map((node) => node.instance);
		},

		handleSave: function() {
			return Promise.all(this.maps().map((map) => map.save()));
		},

		handleSaveApply: function() {
			return this.handleSave().then(() => window.L.require('ui')).then((ui) => ui.changes.apply(true));
		},

		handleReset: function() {
			return Promise.all(this.maps().map((map) => map.reset()));
		},

		addFooter: function() {
			const button = (style, name, title) => this[name] ? E('button', {
				'class': 'btn cbi-button cbi-button-' + style,
				'disabled': window.L.hasViewPermission() ? null : '',
				'click': () => this[name]().catch((error) => console.warn(error.message))
			}, [ title ]) : '';

			return this.handleSave || this.handleSaveApply || this.handleReset ? E('div', { 'class': 'cbi-page-actions' }, [
				button('apply important', 'handleSaveApply', _('Save & Apply')), ' ',
				button('save', 'handleSave', _('Save')), ' ',
				button('reset', 'handleReset', _('Reset')) ]) : E([]);
		}
	});

	// -- modules ----------------------------------------------------------------------------------------------------

	// A module's source opens with directives: 'require a.b as c'.
	function compile(name, source) {
		const wanted = [];
		const directive = /^\s*(?:\/\*[\s\S]*?\*\/|\/\/.*|'([^']*)';?|"([^"]*)";?)/;
		let rest = source, found;

		while ((found = directive.exec(rest))) {
			const text = found[1] || found[2] || '';
			const need = /^require\s+(\S+)(?:\s+as\s+([A-Za-z_]\w*))?$/.exec(text);

			if (need)
				wanted.push({ name: need[1], as: need[2] || need[1].replace(/[^A-Za-z0-9_]/g, '_') });

			rest = rest.slice(found[0].length);
		}

		return Promise.all(wanted.map((need) => window.L.require(need.name))).then((parts) => {
			const made = new Function('window', 'document', 'L', ...wanted.map((need) => need.as), source + '\n//# sourceURL=' + name)
				.call(window, window, document, window.L, ...parts);

			return typeof made === 'function' && made.prototype instanceof Class ? new made() : made;
		});
	}

	window.LuCI = Class.extend({
		__init__: function(given) {
			Object.assign(env, given);
			this.env = env;
			this.Class = Class;
			Object.assign(modules, { baseclass: Class, dom: dom, poll: poll, view: View, rpc: rpc, fs: fs });
		},

		require: function(name) {
			if (!(name in modules))
				modules[name] = fetch(this.resource(name.replace(/\./g, '/') + '.js')).then((answer) => {
					if (!answer.ok)
						throw new Error('no module ' + name);

					return answer.text();
				}).then((source) => compile(name, source));

			return Promise.resolve(modules[name]);
		},

		resource: (...path) => env.resource + '/' + path.join('/'),
		url: (...path) => env.scriptname + '/' + path.join('/'),
		isObject: (value) => value !== null && typeof value === 'object',
		toArray: (value) => Array.isArray(value) ? value : value == null ? [] : [ value ],
		resolveDefault: (promise, fallback) => Promise.resolve(promise).catch(() => fallback),
		hasViewPermission: () => env.nodespec.satisfied ? !env.nodespec.readonly : null
	});
})(window);
