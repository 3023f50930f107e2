// JavaScript of the LuCI views and of the gateway's dashboard. Run with the copy in build/node, so rules are spelt out
// here and nothing is imported.
const browser = Object.fromEntries(
  ['window', 'document', 'console', 'fetch', 'setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'URL',
    'EventSource', 'HTMLElement', 'Node', 'Event', 'requestAnimationFrame', 'localStorage', 'navigator', 'location',
    'AbortController', 'Intl', 'getComputedStyle', 'Blob', 'DOMParser'].map((name) => [name, 'readonly']));
const luci = Object.fromEntries(
  ['L', 'E', '_', 'N_', 'view', 'form', 'uci', 'rpc', 'ui', 'poll', 'fs', 'network', 'dom', 'baseclass', 'validation',
    'request', 'tools', 'widgets', 'firewall', 'svg',
    'backend', 'graph', 'parts', 'words'].map((name) => [name, 'readonly']));
const rules = {
  'no-undef': 'error', 'no-unused-vars': ['error', { args: 'none' }], 'no-dupe-keys': 'error', 'no-unreachable': 'error',
  'no-redeclare': 'error', 'no-const-assign': 'error', 'no-func-assign': 'error', 'no-self-assign': 'error',
  'no-implied-eval': 'error', 'no-eval': 'error', 'no-cond-assign': 'error', 'valid-typeof': 'error',
  'use-isnan': 'error', 'no-fallthrough': 'error', 'no-loss-of-precision': 'error', 'eqeqeq': ['error', 'smart'],
};

// A bare string as E()'s child is markup in LuCI: text goes into an array.
const text = {
  'no-restricted-syntax': ['error',
    { selector: "CallExpression[callee.name='E'][arguments.2.type=/^(Literal|TemplateLiteral|BinaryExpression|Identifier|MemberExpression)$/]:not([arguments.2.name=/^(cells|children)$/])",
      message: "E()'s children go into an array: a bare string is markup" },
    { selector: "CallExpression[callee.name='E'][arguments.2.type='CallExpression'][arguments.2.callee.name='_']", message: "E()'s text goes into an array" },
    { selector: "AssignmentExpression[left.property.name=/^(innerHTML|outerHTML)$/]", message: 'no markup out of strings' }],
};

export default [
  { files: ['luci-app/**/*.js'], languageOptions: { ecmaVersion: 2018, sourceType: 'script',
    parserOptions: { ecmaFeatures: { globalReturn: true } }, globals: { ...browser, ...luci } },
    rules: { ...rules, ...text } },
  { files: ['src/**/*.js'], languageOptions: { ecmaVersion: 2022, sourceType: 'module', globals: { ...browser, uPlot: 'readonly' } }, rules },
];
