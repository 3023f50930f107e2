// Runs the rpcd plugin of luci-app/ under Node.js: ucode is close enough to JavaScript that the very file runs, given the
// functions of ucode that it uses. argv: the file, and a JSON object of path prefixes and what stands for them here.
// Each line on stdin is {id, method, args}, each on stdout {id, result} or {id, failed}.
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as readline from 'node:readline';

const [ file, mapping ] = process.argv.slice(2);
const moved = Object.entries(JSON.parse(mapping));

function here(path) {
  for (const [ prefix, place ] of moved)
    if (path === prefix || path.startsWith(prefix + '/'))
      return place + path.slice(prefix.length);
  return path;
}
function attempt(work) {
  try {
    return work();
  } catch (error) {
    return error ? null : null;
  }
}

const modules = {
  fs: {
    open: (path, mode, perm) => attempt(() => {
      const fd = fs.openSync(here(path), mode, perm);
      return {
        read: (length) => {
          const bytes = Buffer.alloc(length);
          return bytes.subarray(0, fs.readSync(fd, bytes, 0, length, 0)).toString();
        },
        write: (text) => fs.writeSync(fd, text),
        close: () => { fs.closeSync(fd); return true; },
      };
    }),
    lstat: (path) => attempt(() => {
      const found = fs.lstatSync(here(path));
      return { type: found.isFile() ? 'file' : found.isDirectory() ? 'directory' : 'link' };
    }),
    mkdir: (path, mode) => attempt(() => { fs.mkdirSync(here(path), mode); return true; }),
    rename: (from, to) => attempt(() => { fs.renameSync(here(from), here(to)); return true; }),
    unlink: (path) => attempt(() => { fs.unlinkSync(here(path)); return true; }),
  },
  uloop: {
    process: (program, words, env, ended) => {
      const child = spawn(here(program), words.map(here), { env: { ...env, PATH: process.env.PATH }, stdio: 'ignore' });
      child.on('error', () => ended(127));
      child.on('exit', (code) => ended(code ?? 128));
      return child;
    },
  },
};
const builtin = {
  time: () => Math.floor(Date.now() / 1000),
  length: (value) => typeof value === 'string' ? Buffer.byteLength(value) : Array.isArray(value) ? value.length : Object.keys(value).length,
  json: (text) => JSON.parse(text),
  match: (text, pattern) => text.match(pattern),
  sprintf: (form, value) => {
    if (form !== '%J')
      throw new Error('sprintf of the tests knows %J alone');
    return JSON.stringify(value);
  },
  type: (value) => value == null ? null : Array.isArray(value) ? 'array' : typeof value === 'boolean' ? 'bool' :
    typeof value === 'number' ? (Number.isInteger(value) ? 'int' : 'double') : typeof value,
};

const source = fs.readFileSync(file, 'utf8')
  .replace(/^import \{ (.*) \} from '(.*)';$/gm, (all, names, module) => `const { ${names} } = modules['${module}'];`);
const plugin = new Function('modules', ...Object.keys(builtin), source)(modules, ...Object.values(builtin))['luci.bwrouter'];

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, args } = JSON.parse(line);
  const known = plugin[method]?.args ?? {};
  const good = plugin[method] && Object.keys(args).every((name) => name in known && builtin.type(args[name]) === builtin.type(known[name]));
  // rpcd refuses an argument that is not declared, or of another type: 2 is UBUS_STATUS_INVALID_ARGUMENT, 3 METHOD_NOT_FOUND.
  const answer = good ? { id, result: plugin[method].call({ args }) } : { id, failed: plugin[method] ? 2 : 3 };
  process.stdout.write(JSON.stringify(answer) + '\n');
}).on('close', () => process.exit(0));
