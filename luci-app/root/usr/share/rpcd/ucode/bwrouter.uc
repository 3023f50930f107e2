// ubus object luci.bwrouter: what the owner's page may ask of the router. Files of the agent are read as they are;
// programs are started from an argument vector, in the background, so that rpcd never waits for one.
'use strict';

import { open, lstat, mkdir, rename, unlink } from 'fs';
import { process } from 'uloop';

const RUN = '/var/run/bwrouter';          // the agent's; the relay's user may write there too
const OWN = '/var/run/bwrouter-luci';     // root's alone: what orders print, passphrases, backups
const ORDER = '/usr/libexec/bwrouter-order';
const INIT = '/etc/init.d/bwrouter';
const LARGEST = 262144;                   // bytes of a file that is read
const PASSPHRASE_MIN = 10;                // bytes; `bwrouter keys backup` counts characters
const PAUSE_MAX = 31 * 86400;             // seconds

const ACTIONS = { start: true, stop: true, restart: true, reload: true, enable: true, disable: true };
// What may be ordered, as words for `bwrouter`.
const ORDERS = {
	check: [ 'check', '--json' ],
	earnings: [ 'earnings', '--json' ],
	claim: [ 'claim', '--json' ],
	unstake: [ 'unstake', '--yes', '--json' ]
};
const BACKUP = OWN + '/backup.keys', RESTORE = OWN + '/restore.keys', PASSPHRASE = OWN + '/passphrase';

let running = {};   // name of an order: its process
let ended = {};     // ... and its exit code

// The text of a file, null without one. A link is not followed: the relay's user could lay one to a key.
function read(path) {
	let file = lstat(path)?.type == 'file' ? open(path, 'r') : null;

	if (!file)
		return null;

	let text = file.read(LARGEST);

	file.close();

	return text;
}

// An object in a JSON file, or null. A file that holds anything else is never handed out.
function read_object(path) {
	let text = read(path), value = null;

	try {
		value = text ? json(text) : null;
	}
	catch (e) {
		return null;
	}

	return type(value) == 'object' ? value : null;
}

// A new file that only root reads. It is made, never followed: the relay's user may have left a link by this name.
function write_new(path, text) {
	unlink(path);

	let file = open(path, 'wx', 0o600);

	if (!file)
		return false;

	let good = file.write(text) == length(text);

	return file.close() && good;
}

function start(name, program, words, after) {
	if (running[name])
		return { error: 'busy' };

	ended[name] = null;
	running[name] = process(program, words, { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }, (code) => {
		running[name] = null;
		ended[name] = code;

		if (after)
			after();
	});

	return running[name] ? { started: true } : { error: 'failed' };
}

function order(name, words, after) {
	mkdir(OWN, 0o700);

	return start(name, ORDER, [ OWN + '/' + name + '.out', ...words ], after);
}

// Keys move only with a passphrase, which is gone when the order has ended.
function order_keys(name, words, passphrase, after) {
	if (running.backup || running.restore)
		return { error: 'busy' };

	if (type(passphrase) != 'string' || length(passphrase) < PASSPHRASE_MIN || length(passphrase) > 1024 || match(passphrase, /[\r\n]/))
		return { error: 'passphrase' };

	mkdir(OWN, 0o700);

	if (!write_new(PASSPHRASE, passphrase + '\n'))
		return { error: 'failed' };

	let answer = order(name, [ ...words, '--passphrase-file', PASSPHRASE ], () => {
		unlink(PASSPHRASE);

		if (after)
			after();
	});

	if (answer.error)
		unlink(PASSPHRASE);

	return answer;
}

const methods = {
	status: {
		call: function() {
			return {
				now: time(),
				status: read_object(RUN + '/status.json'),
				fault: read(RUN + '/fault-service.txt') ?? read(RUN + '/fault-agent.txt') ?? read(RUN + '/fault-relay.txt') ?? ''
			};
		}
	},

	history: {
		call: function() {
			return { history: read_object(RUN + '/history.json') };
		}
	},

	// until: unix seconds; 0 ends a pause.
	pause: {
		args: { until: 0 },
		call: function(request) {
			let until = request.args.until, now = time();

			if (type(until) != 'int' || (until != 0 && (until <= now || until > now + PAUSE_MAX)))
				return { error: 'time' };

			if (until == 0) {
				unlink(RUN + '/pause.json');

				return { until: 0 };
			}

			if (!write_new(RUN + '/pause.json.luci', sprintf('%J', { until })) ||
			    !rename(RUN + '/pause.json.luci', RUN + '/pause.json'))
				return { error: 'failed' };

			return { until };
		}
	},

	service: {
		args: { action: 'start' },
		call: function(request) {
			let action = request.args.action;

			if (type(action) != 'string' || !ACTIONS[action])
				return { error: 'action' };

			return start('service', INIT, [ action ], null);
		}
	},

	order: {
		args: { name: 'claim' },
		call: function(request) {
			let name = request.args.name;

			if (type(name) != 'string' || !ORDERS[name])
				return { error: 'order' };

			return order(name, ORDERS[name], null);
		}
	},

	// What an order printed: {running, code, output}; code is null while it runs and when there was none.
	result: {
		args: { name: 'claim' },
		call: function(request) {
			let name = request.args.name;

			if (type(name) != 'string' || (!ORDERS[name] && name != 'backup' && name != 'restore' && name != 'service'))
				return { error: 'order' };

			if (running[name])
				return { running: true, code: null, output: '' };

			return { running: false, code: ended[name] ?? null, output: read(OWN + '/' + name + '.out') ?? '' };
		}
	},

	backup: {
		args: { passphrase: '' },
		call: function(request) {
			unlink(BACKUP);

			return order_keys('backup', [ 'keys', 'backup', BACKUP ], request.args.passphrase, null);
		}
	},

	// The encrypted backup, once.
	backup_file: {
		call: function() {
			let text = running.backup || ended.backup != 0 ? null : read(BACKUP);

			if (!text)
				return { error: 'none' };

			unlink(BACKUP);

			return { text };
		}
	},

	restore: {
		args: { text: '', passphrase: '' },
		call: function(request) {
			let text = request.args.text;

			if (type(text) != 'string' || length(text) < 1 || length(text) > 16384)
				return { error: 'file' };

			if (running.backup || running.restore)
				return { error: 'busy' };

			mkdir(OWN, 0o700);

			if (!write_new(RESTORE, text))
				return { error: 'failed' };

			let answer = order_keys('restore', [ 'keys', 'restore', RESTORE, '--yes' ], request.args.passphrase,
				() => unlink(RESTORE));

			if (answer.error)
				unlink(RESTORE);

			return answer;
		}
	}
};

return { 'luci.bwrouter': methods };
