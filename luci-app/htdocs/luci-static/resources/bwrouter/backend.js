'use strict';
'require baseclass';
'require rpc';

const call = (method, params) => rpc.declare({
	object: 'luci.bwrouter',
	method: method,
	params: params,
	expect: { '': {} }
});

const order = call('order', [ 'name' ]);
const result = call('result', [ 'name' ]);
const backup = call('backup', [ 'passphrase' ]);
const restore = call('restore', [ 'text', 'passphrase' ]);
const service = call('service', [ 'action' ]);

const WAIT_MS = 500;
const PATIENCE_MS = 120000; // gateways may be slow, and so may a small CPU

function parsed(text) {
	try {
		return JSON.parse(text);
	}
	catch (error) {
		return error && null;
	}
}

// The end of what was started under `name`: {code, output}; rejects with a code of words.failure().
function finished(name, answer) {
	if (answer.error || !answer.started)
		return Promise.reject(new Error(answer.error || 'denied'));

	const until = Date.now() + PATIENCE_MS;
	const look = () => result(name).then((found) => {
		if (!found.running)
			return found;

		if (Date.now() > until)
			throw new Error('slow');

		return new Promise((resolve) => setTimeout(resolve, WAIT_MS)).then(look);
	});

	return look();
}

return baseclass.extend({
	status: call('status'),
	history: call('history'),
	pause: call('pause', [ 'until' ]),
	backupFile: call('backup_file'),

	// start, stop, restart, reload, enable or disable the service; resolves when it is done.
	service: function(action) {
		return service(action).then((answer) => finished('service', answer)).then((found) => {
			if (found.code !== 0)
				throw new Error('service');
		});
	},

	// The object that `bwrouter NAME --json` prints, good news or not. Rejects with what it says instead.
	order: function(name) {
		return order(name).then((answer) => finished(name, answer)).then((found) => {
			const lines = found.output.trim().split('\n');
			const value = parsed(lines[lines.length - 1]);

			if (!L.isObject(value))
				throw new Error(lines[lines.length - 1] || 'failed');

			return value;
		});
	},

	// The text of an encrypted backup of all keys.
	backup: function(passphrase) {
		return backup(passphrase).then((answer) => finished('backup', answer)).then((found) => {
			if (found.code !== 0)
				throw new Error(found.output.trim() || 'failed');

			return this.backupFile();
		}).then((found) => {
			if (!found.text)
				throw new Error(found.error || 'failed');

			return found.text;
		});
	},

	restore: function(text, passphrase) {
		return restore(text, passphrase).then((answer) => finished('restore', answer)).then((found) => {
			if (found.code !== 0)
				throw new Error(found.output.trim() || 'failed');
		});
	}
});
