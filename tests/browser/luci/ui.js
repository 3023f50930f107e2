// Stand-in for LuCI's ui module.
'use strict';
'require baseclass';
'require dom';
'require uci';

return baseclass.extend({
	changes: {
		apply: () => uci.apply(10).then(() => new Promise((resolve) => setTimeout(resolve, 1500))).then(() => location.reload())
	},

	instantiateView: function(path) {
		return L.require('view.' + path.replace(/\//g, '.'));
	},

	showModal: function(title, children) {
		this.hideModal();
		this.before = document.activeElement;

		const box = E('div', { 'class': 'modal', 'role': 'dialog', 'aria-modal': 'true', 'tabindex': '-1' });

		// As LuCI: the title is a bare string.
		dom.append(box, E('h4', {}, title));
		dom.append(box, children);
		document.body.appendChild(E('div', { 'id': 'modal_overlay' }, [ box ]));
		document.body.classList.add('modal-overlay-active');
		box.addEventListener('keydown', (ev) => {
			if (ev.key === 'Escape')
				this.hideModal();
		});
		box.focus();

		return box;
	},

	hideModal: function() {
		const overlay = document.getElementById('modal_overlay');

		if (overlay) {
			overlay.remove();
			document.body.classList.remove('modal-overlay-active');
		}
	},

	addNotification: function(title, children, ...styles) {
		const node = E('div', { 'class': [ 'alert-message', 'fade-in' ].concat(styles).join(' '), 'role': 'alert' }, [
			E('button', { 'class': 'btn', 'style': 'float:right', 'click': (ev) => ev.target.parentNode.remove() }, [ _('Dismiss') ]) ]);

		if (title)
			dom.append(node, E('h4', {}, title));

		dom.append(node, children);
		document.getElementById('maincontent').prepend(node);

		return node;
	},

	createHandlerFn: function(ctx, handler, ...args) {
		return (ev) => {
			const button = ev.currentTarget;

			button.disabled = true;
			button.classList.add('spinning');

			return Promise.resolve(handler.apply(ctx, args.concat([ ev ]))).finally(() => {
				button.disabled = false;
				button.classList.remove('spinning');
			});
		};
	}
});
