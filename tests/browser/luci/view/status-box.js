// LuCI's status page as far as an include of it sees it: load, then render into a section under its title.
'use strict';
'require view';
'require view.status.include.65_bwrouter as box';

return view.extend({
	load: () => box.load(),
	render: (loaded) => E('div', { 'class': 'cbi-section' }, [ E('h3', {}, [ box.title ]), E('div', {}, [ box.render(loaded) ]) ]),
	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
