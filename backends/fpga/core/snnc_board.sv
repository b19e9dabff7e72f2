// A board: oscillator, button for reset, serial port, and an LED that is on while the core waits for an image.
`default_nettype none
`include "network.vh"

module snnc_board (
    input  wire clk,
    input  wire button,
    input  wire rx,
    output wire tx,
    output wire led
);
    reg [3:0] after = 0;       // cycles since power was there
    reg rst = 1;
    always @(posedge clk) begin
        if (after != 15) after <= after + 1'b1;
        rst <= after != 15 || (button == `SNNC_BUTTON);
    end

    wire [15:0] q;
    wire [31:0] score;
    wire q_valid, q_ready, score_valid, score_ready, last, mark;
    wire [15:0] mark_id;

    snnc_uart #(.DIVIDER(`SNNC_DIVIDER)) uart (
        .clk(clk), .rst(rst), .rx(rx), .tx(tx), .m_tdata(q), .m_tvalid(q_valid), .m_tready(q_ready),
        .s_tdata(score), .s_tvalid(score_valid), .s_tready(score_ready)
    );

    snnc_network network (
        .clk(clk), .rst(rst), .s_tdata(q), .s_tvalid(q_valid), .s_tlast(1'b0), .s_tready(q_ready),
        .m_tdata(score), .m_tvalid(score_valid), .m_tlast(last), .m_tready(score_ready), .mark(mark),
        .mark_id(mark_id)
    );

    assign led = q_ready;
    wire unused = &{1'b0, last, mark, mark_id};
endmodule

`default_nettype wire
