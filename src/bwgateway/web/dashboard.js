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
  for (const [text, className] of cells) tr.append(element('td', text, className));
  return tr;
}

function facts(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([name, value, className]) => [element('dt', name), element('dd', value, className)]));
}

/** A descriptor's fields (docs/protocol.md section 5). */
function parse(hex) {
  const bytes = new Uint8Array(hex.match(/../g).map((b) => parseInt(b, 16)));
  const view = new DataView(bytes.buffer);
  return {
    id: hex.slice(2, 66), region: view.getUint16(121, true), exit: (view.getUint16(123, true) & 1) === 1,
    kbps: view.getUint32(125, true), until: view.getUint32(145, true),
  };
}

async function get(path) {
  const answer = await fetch(path);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail || answer.statusText);
  return body;
}

function draw(id, data, label, unit) {
  const box = $(id);
  if (!data[0].length) return;
  if (charts[id]) {
    charts[id].setData(data);
    return;
  }
  const axis = { stroke: style('--dim'), grid: { stroke: style('--line'), width: 1 }, ticks: { stroke: style('--line') } };
  charts[id] = new uPlot({
    width: box.clientWidth, height: 220, scales: { x: { time: id === 'price' } },
    series: [{ label: id === 'price' ? 'time' : 'tokens' }, { label, stroke: style('--accent'), width: 2, value: (_, v) => (v === null ? '–' : `${v.toPrecision(6)} ${unit}`) }],
    axes: [axis, { ...axis, size: 70 }],
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

function showRegions(overview) {
  $('regions').replaceChildren(...overview.regions.map((r) => {
    const card = element('div', undefined, 'region');
    card.append(element('small', `Region ${r.region}`), element('b', `${r.relays} routers`),
      element('div', `${rate(r.capacity_kbps)} offered`), element('div', `${tokens(r.price_wei)} BWT for 1 GiB·hop`));
    return card;
  }));
  const first = overview.regions[0];
  if (!first) return;
  $('price-now').textContent = `region ${first.region}: ${tokens(first.price_wei, 6)} BWT`;
  draw('price', [first.history.map((p) => p.time), first.history.map((p) => Number(p.price_wei) / 1e18)], 'price', 'BWT');
  draw('depth', depth(first.bwt_wei, first.token_wei), 'mean price', 'BWT');
}

async function refresh() {
  try {
    const [overview, directory, epochs] = await Promise.all([get('/v1/overview'), get('/v1/directory'), get('/v1/epochs')]);
    showRegions(overview);
    const relays = directory.descriptors.map(parse);
    $('count').textContent = relays.length;
    $('relays').replaceChildren(...relays.map((r) => row([
      [r.id, 'id'], [r.region], [rate(r.kbps)], [r.exit ? 'yes' : 'no'], [new Date(r.until * 1000).toLocaleString()],
    ])));
    $('epochs').replaceChildren(...epochs.epochs.slice(0, 20).map((e) => row([
      [e.number], [e.region], [e.state, e.state], [tokens(e.total_wei, 6)], [e.root.slice(0, 16) || '–', 'id'],
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
      const known = (await get('/v1/directory')).descriptors.map(parse).find((r) => r.id.startsWith(id));
      if (!known) throw new Error('no live router begins like that; give the whole id');
      id = known.id;
    }
    const stake = await get(`/v1/stake/${id}`);
    if (stake.state === 'none') throw new Error('not registered');
    const earned = await get(`/v1/earnings/${id}`);
    facts(list, [
      ['id', id], ['state', stake.state, stake.state], ['region', stake.region], ['claimed rate', rate(stake.rate_kbps)],
      ['stake', `${tokens(stake.stake)} BWT`], ['carried', `${earned.units} units of 64 KiB`],
      ['earned', tokens(earned.cumulative_wei, 9)], ['paid', `${tokens(earned.claimed_wei, 9)} to ${earned.payout}`],
    ]);
  } catch (error) {
    facts(list, [['', error.message, 'posted']]);
  }
}

$('search').addEventListener('submit', search);
window.addEventListener('resize', () => {
  for (const [id, chart] of Object.entries(charts)) chart.setSize({ width: $(id).clientWidth, height: 220 });
});
refresh();
setInterval(refresh, REFRESH_MS);
