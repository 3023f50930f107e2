'use strict';
'require baseclass';
'require bwrouter.backend as backend';
'require bwrouter.parts as parts';
'require bwrouter.words as words';

return baseclass.extend({
	title: _('Bandwidth Sharing'),

	load: function() {
		return L.resolveDefault(backend.status(), {});
	},

	render: function(answer) {
		const status = parts.alive(answer) ? answer.status : null;
		const link = E('a', { 'href': L.url('admin/services/bwrouter/overview') }, [ _('Details') ]);

		if (!status)
			return E('p', {}, [ _('The service is not running: nothing is shared.'), ' ', link ]);

		const quota = status.rate.quota || {}, earnings = status.earnings || {};

		return parts.table([ _('Shared now'), _('Why'), _('Shared today'), _('Earned in all'), '' ], [ [
			_('up to %s').format(words.rate(status.rate.allowed_kbps)), words.reason(status.rate.reason), words.bytes(quota.day_bytes),
			words.tokens(earnings.cumulative_wei), link ] ], '');
	}
});
