'use strict';

const REFRESH_MS = 5000;
const $ = (id) => document.getElementById(id);
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const charts = {};

/** Wei as a decimal of whole tokens; exact up to the digits shown. */
function tokens(wei, digits = 4) {
  const text = BigInt(wei).toString().padStart(19, '0');
  return `${text.slice(0, -18)}.${text.slice(-18, -18 + digits)}`;
}

function rate(kbps) {
  return kbps >= 1e6 ? `${(kbps / 1e6).toFixed(2)} Gbit/s` : `${(kbps / 1e3).toFixed(1)} Mbit/s`;
}

function element(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function row(cells) {
  const tr = element('tr');
  for (const [content, className] of cells) {
    const td = element('td', undefined, className);
    td.append(content);
    tr.append(td);
  }
  return tr;
}

/** A router's id, short; all of it in its title, and a click looks it up. */
function routerCell(id) {
  const button = element('button', `${id.slice(0, 12)}…`, 'link');
  button.type = 'button';
  button.title = id;
  button.addEventListener('click', () => {
    $('id').value = id;
    $('search').requestSubmit();
    $('search').scrollIntoView({ behavior: 'smooth', block: 'nearest' });
  });
  return button;
}

function facts(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([name, value, className]) => [element('dt', name), element('dd', value, className)]));
}

function ago(time) {
  const seconds = Math.max(0, Math.round(Date.now() / 1000 - time));
  if (seconds < 120) return `${seconds} s ago`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

/** What BandwidthProof's verdicts say, for people. */
const REASONS = {
  good: 'good', slow: 'slow: below 90 % of its claim', unreachable: 'unreachable', busy: 'busy: household',
  corrupt: 'corrupt: wrong bytes', inconclusive: 'inconclusive: too few agree',
};
const STANDINGS = ['good standing', 'under suspicion', 'suspended'];

function verdict(a) {
  return [REASONS[a.reason] || a.reason, a.reason];
}

async function get(path) {
  const answer = await fetch(path);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail || answer.statusText);
  return body;
}

/** Digits after the point that tell marks apart which are `step` from each other. */
function decimals(step) {
  let digits = 0;
  while (digits < 12 && Math.abs(step - Number(step.toFixed(digits))) > step / 1e6) digits++;
  return digits;
}

function draw(id, data, label, unit, fresh) {
  const box = $(id);
  if (fresh && charts[id]) {
    charts[id].destroy();
    delete charts[id];
  }
  if (!data[0].length) {
    box.dataset.empty = 'no data yet';
    return;
  }
  delete box.dataset.empty;
  if (charts[id]) {
    charts[id].setData(data);
    return;
  }
  const axis = { stroke: style('--dim'), grid: { stroke: style('--line'), width: 1 }, ticks: { stroke: style('--line') } };
  charts[id] = new uPlot({
    width: box.clientWidth, height: 220, padding: [12, 12, 0, 0], scales: { x: { time: id === 'price' } },
    series: [{ label: id === 'price' ? 'time' : 'tokens' }, { label, stroke: style('--accent'), width: 2, value: (_, v) => (v === null ? '–' : `${v.toPrecision(6)} ${unit}`) }],
    axes: [axis, { ...axis, size: 70, values: (_, ticks, axisAt, space, step) => ticks.map((v) => v.toFixed(decimals(step))) }],
  }, data, box);
}

/** BWT a token for buying 0.1 % to 50 % of the reserve at once, with the pool's fee of 0.3 %. */
function depth(bwt, token) {
  const [x, y] = [Number(bwt) / 1e18, Number(token) / 1e18];
  const amounts = [], prices = [];
  for (let i = 1; i <= 50; i++) {
    const out = (y * i) / 100;
    amounts.push(out);
    prices.push((x * out) / (y - out) / 0.997 / out);
  }
  return [amounts, prices];
}

let chosen = 0;
let latest = null;

function showRegions(overview) {
  latest = overview;
  const shown = overview.regions.find((r) => r.region === chosen) || overview.regions[0];
  $('regions').replaceChildren(...overview.regions.map((r) => {
    const card = element('button', undefined, 'region');
    card.type = 'button';
    card.setAttribute('aria-pressed', String(r === shown));
    card.append(element('small', `Region ${r.region}`), element('b', `${r.relays} ${r.relays === 1 ? 'router' : 'routers'}`),
      element('span', `${rate(r.capacity_kbps)} offered`), element('span', `${tokens(r.price_wei)} BWT for 1 GiB·hop`));
    card.addEventListener('click', () => {
      chosen = r.region;
      showRegions(latest);
      showCharts(r, true);
    });
    return card;
  }));
  if (shown) showCharts(shown, false);
}

function showCharts(r, fresh) {
  $('price-now').textContent = `region ${r.region}: ${tokens(r.price_wei, 6)} BWT`;
  draw('price', [r.history.map((p) => p.time), r.history.map((p) => Number(p.price_wei) / 1e18)], 'price', 'BWT', fresh);
  draw('depth', depth(r.bwt_wei, r.token_wei), 'mean price', 'BWT', fresh);
}

function showAudits(audits) {
  $('audits').replaceChildren(...audits.slice(0, 20).map((a) => row([
    [a.epoch], [routerCell(a.relay), 'id'], verdict(a), [a.kbps ? rate(a.kbps) : '–'], [rate(a.claimed_kbps)],
    [`${a.votes} of ${a.reveals}`], [STANDINGS[a.strikes] || a.strikes, ['active', 'posted', 'suspended'][a.strikes]],
  ])));
}

function showOwnAudits(audits) {
  $('router-audits').hidden = !audits.length;
  $('own-audits').replaceChildren(...audits.map((a) => row([
    [a.epoch], verdict(a), [a.kbps ? rate(a.kbps) : '–'], [rate(a.claimed_kbps)], [a.latency_ms === null ? '–' : `${a.latency_ms} ms`],
    [a.loss_bps === null ? '–' : `${(a.loss_bps / 100).toFixed(2)} %`], [`${a.votes} of ${a.reveals}`],
  ])));
}

async function refresh() {
  try {
    const [overview, listed, epochs, audits] = await Promise.all(
      [get('/v1/overview'), get('/v1/relays'), get('/v1/epochs'), get('/v1/audits')]);
    showRegions(overview);
    showAudits(audits.audits);
    $('count').textContent = listed.count;
    $('relays').replaceChildren(...listed.relays.slice(0, 200).map((r) => row([
      [routerCell(r.relay), 'id'], [r.region], [rate(r.rate_kbps)], [r.audited_kbps ? rate(r.audited_kbps) : '–'], [r.class],
      [r.audited_kbps ? `${(r.score / 100).toFixed(1)} %` : '–'], [r.exit ? 'yes' : 'no'], [ago(r.seen_at)],
    ])));
    $('epochs').replaceChildren(...epochs.epochs.slice(0, 20).map((e) => row([
      [e.number], [e.region], [e.state, e.state], [ago(e.closed_at)], [tokens(e.total_wei, 6)], [e.root.slice(0, 16) || '–', 'id'],
    ])));
    $('state').textContent = `block ${overview.block}, epoch ${overview.epoch.number}`;
    $('state').className = '';
  } catch (error) {
    $('state').textContent = `no answer: ${error.message}`;
    $('state').className = 'down';
  }
}

async function search(event) {
  event.preventDefault();
  let id = $('id').value.trim().toLowerCase();
  const list = $('router');
  try {
    if (!/^[0-9a-f]{4,64}$/.test(id)) throw new Error('a router id has 64 hex digits; give four of them at least');
    if (id.length < 64) {
      const known = await get(`/v1/relays?id=${id}`);
      if (!known.count) throw new Error('no live router begins like that; give the whole id');
      if (known.count > 1) throw new Error(`${known.count} live routers begin like that; give more of the id`);
      id = known.relays[0].relay;
    }
    const stake = await get(`/v1/stake/${id}`);
    if (stake.state === 'none') throw new Error('not registered');
    const [earned, judged] = await Promise.all([get(`/v1/earnings/${id}`), get(`/v1/audits/${id}`)]);
    facts(list, [
      ['id', id], ['state', stake.state, stake.state], ['region', stake.region], ['claimed rate', rate(stake.rate_kbps)],
      ['stake', `${tokens(stake.stake)} BWT`], ['carried', `${earned.units} units of 64 KiB`],
      ['earned', tokens(earned.cumulative_wei, 9)], ['paid', `${tokens(earned.claimed_wei, 9)} to ${earned.payout}`],
    ]);
    showOwnAudits(judged.audits);
  } catch (error) {
    facts(list, [['', error.message, 'posted']]);
    showOwnAudits([]);
  }
}

$('search').addEventListener('submit', search);
window.addEventListener('resize', () => {
  for (const [id, chart] of Object.entries(charts)) chart.setSize({ width: $(id).clientWidth, height: 220 });
});
window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  const r = latest && (latest.regions.find((x) => x.region === chosen) || latest.regions[0]);
  if (r) showCharts(r, true);  // the axes take their colours when they are made
});
refresh();
setInterval(refresh, REFRESH_MS);
