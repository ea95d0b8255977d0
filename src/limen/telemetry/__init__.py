"""What Limen says about itself: logs now; metrics and traces stand beside them."""
